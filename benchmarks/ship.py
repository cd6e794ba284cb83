"""Put a finished run's models into the package: ``make ship RUN=runs/...`` (a run that trained from scratch).

``make ship RUN=runs/... NAME=shapes-under`` gives a single model another name than its study's.

They are what a model's setting ``shipped`` takes; their provenance travels in config.json. Networks of images are
shipped in half precision.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from intermode.files import read_json
from intermode.models import SHIPPED, load_model, provenance_of, save_model
from intermode.targets.lattice import LATTICES


def main() -> None:
    run = Path(sys.argv[1])
    study = read_json(run / "config.json")["study"]
    name = sys.argv[2] if len(sys.argv) > 2 else study
    wanted = {lattice: f"{lattice}*-model" for lattice in LATTICES} if study == "gaussian-2d" else {name: "model"}
    for name, job in wanted.items():
        trained = sorted(path.parent for path in (run / "jobs").glob(f"{job}-*/model/config.json"))
        if not trained:
            raise SystemExit(f"{run}: holds no model that it trained (jobs/{job}-*/model)")
        folder = trained[0]
        record = provenance_of(folder)
        shutil.rmtree(SHIPPED / name, ignore_errors=True)
        denoiser = load_model(folder)
        if len(denoiser.shape) == 3:
            save_model(SHIPPED / name, denoiser, {**record, "weights": "rounded to float16"}, half=True)
        else:
            shutil.copytree(folder, SHIPPED / name, ignore=shutil.ignore_patterns("checkpoint*", ".*"))
        size = sum(file.stat().st_size for file in (SHIPPED / name).rglob("*") if file.is_file())
        print(f"{name}: {record['target']}, commit {record['commit']}, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
