"""Copy a finished run's metrics and figures to ``results/<study>/<tier>``: ``make keep RUN=runs/...``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from intermode.files import read_json

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    run = Path(sys.argv[1])
    metrics = read_json(run / "metrics.json")
    kept = ROOT / "results" / metrics.get("study", metrics.get("experiment")) / metrics["tier"]
    shutil.rmtree(kept, ignore_errors=True)
    (kept / "figures").mkdir(parents=True)
    shutil.copy(run / "metrics.json", kept)
    for name in metrics["figures"]:
        shutil.copy(run / "figures" / f"{name}.png", kept / "figures")
    print(f"{kept.relative_to(ROOT)}: metrics and {len(metrics['figures'])} figures kept")


if __name__ == "__main__":
    main()
