"""Run the paper's own sizes on a GPU in slices that resume, the most valuable first: ``make paper-gpu``.

``python benchmarks/paper_gpu.py OUT [--minutes 9] [--tier paper] [--device cuda] [--studies NAME ...]``. A slice ends
after so many minutes and the same command goes on with the next one: jobs that are finished stay so, and a training
goes on from its last checkpoint. After each slice ``OUT/kept/<study>/<tier>`` holds what the finished jobs say:
metrics, figures, facts, and the models, those of images in half precision: ready to be committed as results.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

from keep_result import keep

from intermode.files import read_json
from intermode.models import load_model, provenance_of, save_model

STUDIES = ("shapes", "recursion-shapes", "recursion-mnist", "recursion-2d", "gaussian-1d", "gaussian-2d")
LEAST = 20.0
"""Seconds that are left for a study to be begun."""


def command(name: str, run: Path, settings: argparse.Namespace, *more: str) -> list[str]:
    """That reproduces a study."""
    told = ["--tier", settings.tier, "--device", settings.device, "--out", str(run), "--jobs", str(run / "jobs")]
    return [sys.executable, "-m", "intermode", "reproduce", name, *told, *more]


def slice_of(name: str, run: Path, settings: argparse.Namespace, deadline: float) -> bool:
    """Go on with a study until it is done, or time is up.

    Returns:
        whether it is done.
    """
    process = subprocess.Popen(command(name, run, settings))
    try:
        return process.wait(max(deadline - time.monotonic(), 0)) == 0
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return False


def keep_models(jobs: Path, kept: Path) -> int:
    """The models of finished jobs; of images in half precision.

    Returns:
        how many.
    """
    folders = [path.parent for path in sorted(jobs.glob("*/result.json")) if (path.parent / "model").is_dir()]
    for folder in folders:
        denoiser, place = load_model(folder / "model"), kept / "models" / folder.name
        half = len(denoiser.shape) == 3
        record = {**provenance_of(folder / "model"), **({"weights": "rounded to float16"} if half else {})}
        save_model(place, denoiser, record, half=half)
    return len(folders)


def done(run: Path) -> bool:
    """Whether a study's jobs are all finished."""
    return (run / "metrics.json").exists() and not read_json(run / "metrics.json")["missing"]


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--tier", default="paper")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--studies", nargs="+", default=list(STUDIES))
    settings = parser.parse_args(words)
    deadline, begun = time.monotonic() + 60 * settings.minutes, []
    for name in settings.studies:
        run = settings.out / "runs" / name
        if done(run) or deadline - time.monotonic() < LEAST:
            continue
        begun.append(name)
        if not slice_of(name, run, settings, deadline):
            break
    for name in begun:
        run = settings.out / "runs" / name
        subprocess.run(command(name, run, settings, "--workers", "0"), check=True, stdout=subprocess.DEVNULL)
        kept = keep(run, run / "jobs", settings.out / "kept")
        how = "done" if done(run) else "goes on with the next slice"
        print(f"{name}: {how}; {keep_models(run / 'jobs', kept)} models")
    left = [name for name in settings.studies if not done(settings.out / "runs" / name)]
    print(f"left: {', '.join(left) or 'nothing'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
