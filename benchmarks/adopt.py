"""Take models that were trained elsewhere as finished jobs of a study.

``python benchmarks/adopt.py MODELS JOBS [STUDY [TIER]]``, by default for the long tier of ``gaussian-1d-sweeps``.

Every model folder in MODELS whose record in ``config.json`` (network, schedule, training, size, target, seed) is that
of a job is copied into the job's folder in JOBS, the jobs of a run. The commit, versions and seconds that it was made
with stay its own. One that is no job's model is refused, with what differs from the job that is most like it.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from intermode.errors import InputError
from intermode.files import read_json, write_json
from intermode.jobs import Job, Store
from intermode.models import load_model, provenance_of
from intermode.networks import build
from intermode.study import configured, load_study
from intermode.study.configs import Model
from intermode.study.steps import train_model

NO_RESULT = ("checkpoint_every", "track")
"""Settings of a training on which its weights do not depend."""
EARLIER_NETWORK, EARLIER_TRAINING = {"kind": "mlp", "final_norm": True}, {"targets": "noise", "reference": 1000}
"""What records say nothing of that were made before there was a choice."""


def wanted(model: Model) -> dict[str, Any]:
    """What the record of a trained model says."""
    training = asdict(model.training())
    return {
        "network": build(model.network.description(model.shape, model.classes)).description,
        "schedule": model.noise.schedule.config,
        "prediction": model.prediction,
        "target": model.words,
        "size": model.size,
        **{name: value for name, value in training.items() if name not in NO_RESULT},
    }


def recorded(folder: Path) -> dict[str, Any]:
    """The same of a model folder."""
    config, made = read_json(folder / "config.json"), provenance_of(folder)
    network, training = config["network"], made.get("training", {})
    if network.get("kind") == "mlp":
        network = {**EARLIER_NETWORK, **network}
    if training:
        training = {**EARLIER_TRAINING, **training}
    return {
        "network": network,
        **{name: config[name] for name in ("schedule", "prediction")},
        "target": made.get("target"),
        "size": made.get("training_samples"),
        **{name: value for name, value in training.items() if name not in NO_RESULT},
    }


def job_of(folder: Path, jobs: Iterable[Job]) -> Job:
    """The job whose model this is.

    Raises:
        InputError: none's.
    """
    there = recorded(folder)
    differing = {}
    for job in jobs:
        here = wanted(job.config)
        differing[job] = [k for k in {**there, **here} if k not in there or k not in here or there[k] != here[k]]
    job = min(differing, key=lambda job: len(differing[job]))
    if differing[job]:
        here = wanted(job.config)
        listed = ", ".join(f"{k} is {there.get(k, 'nothing')}, not {here.get(k, 'nothing')}" for k in differing[job])
        raise InputError(f"{folder.name}: is no job's model; it differs from that of {job.name} ({listed})")
    if not all(torch.isfinite(value).all() for value in load_model(folder).network.state_dict().values()):
        raise InputError(f"{folder.name}: has weights that are not finite")
    return job


def adopt(folder: Path, job: Job, store: Store) -> str:
    """Copy a model into the folder of its job, and say so."""
    if store.done(job) is not None:
        return f"{folder.name}: {job.folder} is finished already"
    place, made = store.folder(job), provenance_of(folder)
    shutil.copytree(folder, place / "model", ignore=shutil.ignore_patterns("checkpoint*", ".*"), dirs_exist_ok=True)
    write_json(place / "job.json", {"name": job.name, **job.what})
    facts = {name: made[name] for name in ("losses", "train_s")}
    stamp = {**{name: made[name] for name in ("commit", "device", "versions")}, "seconds": round(made["train_s"], 2)}
    write_json(place / "result.json", {"facts": facts, "made": stamp})
    return f"{folder.name}: adopted as {job.folder}"


def main(words: list[str]) -> int:
    models, jobs, study, tier = (*words, *("gaussian-1d-sweeps", "long")[len(words) - 2 :])
    chosen = load_study(study)
    named = chosen.jobs(configured(chosen, tier)).values()
    trained = [job for job in named if job.work is train_model and not job.inputs and job.config.shipped is None]
    store, refused = Store(Path(jobs)), 0
    with store.alone():
        for folder in sorted(path for path in Path(models).iterdir() if path.is_dir()):
            try:
                print(adopt(folder, job_of(folder, trained), store))
            except InputError as error:
                refused += 1
                print(f"refused: {error}", file=sys.stderr)
    return min(refused, 1)


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 5:
        sys.exit(__doc__)
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        sys.exit(f"error: {error}")
