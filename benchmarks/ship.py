"""Put a finished run's models into the package: ``make ship RUN=runs/...`` (gaussian-1d or gaussian-2d, from scratch).

They are what ``--pretrained`` takes; their provenance travels in config.json.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from intermode.bundle import SHIPPED, provenance_of
from intermode.files import read_json
from intermode.targets.lattice import LATTICES


def main() -> None:
    run = Path(sys.argv[1])
    experiment = read_json(run / "config.json")["experiment"]
    models = {"gaussian-1d": run / "model"} if experiment == "gaussian-1d" else {n: run / n / "model" for n in LATTICES}
    for name, folder in models.items():
        record = provenance_of(folder)
        shutil.rmtree(SHIPPED / name, ignore_errors=True)
        shutil.copytree(folder, SHIPPED / name, ignore=shutil.ignore_patterns("checkpoint*", ".*"))
        size = sum(file.stat().st_size for file in (SHIPPED / name).iterdir())
        print(f"{name}: {record['target']}, commit {record['commit']}, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
