"""Copy a run's metrics, figures and the facts of its jobs to ``results/<study>/<tier>``: ``make keep RUN=runs/...``.

``make known RESULT=results/<study>/<tier> JOBS=folder`` puts the facts into a folder of jobs: ``intermode reproduce
<study> --tier <tier> --jobs folder`` then does what is missing alone, such as further seeds.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from intermode.files import read_json, write_text
from intermode.jobs import facts_of, put_facts

ROOT = Path(__file__).resolve().parents[1]


def keep(run: Path, jobs: Path, results: Path) -> Path:
    """A run, and the folder of its jobs.

    Returns:
        where in ``results`` it is now.
    """
    metrics = read_json(run / "metrics.json")
    kept = results / metrics.get("study", metrics.get("experiment")) / metrics["tier"]
    shutil.rmtree(kept, ignore_errors=True)
    (kept / "figures").mkdir(parents=True)
    shutil.copy(run / "metrics.json", kept)
    for name in metrics["figures"]:
        shutil.copy(run / "figures" / f"{name}.png", kept / "figures")
    facts = facts_of(jobs)
    lines = (f"{json.dumps(name)}: {json.dumps(facts[name], allow_nan=False)}" for name in facts)
    write_text(kept / "facts.json", "{\n" + ",\n".join(lines) + "\n}\n")  # a line a job, for whoever compares versions
    print(f"{kept}: metrics, {len(metrics['figures'])} figures and facts of {len(facts)} jobs kept")
    return kept


def known(result: Path, jobs: Path) -> None:
    """The facts of a kept run, into a folder of jobs."""
    print(f"{jobs}: {put_facts(read_json(result / 'facts.json'), jobs)} jobs are known")


def main(words: list[str]) -> None:
    verb, path, *rest = words
    jobs = Path(rest[0]) if rest else Path(path) / "jobs"
    if verb == "keep":
        keep(Path(path), jobs, ROOT / "results")
    else:
        known(Path(path), jobs)


if __name__ == "__main__":
    main(sys.argv[1:])
