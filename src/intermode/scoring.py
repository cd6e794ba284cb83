"""Scores of a whole data set, streamed: block by block through the model, in bounded memory.

What is held is a block of samples and 8 bytes for each score. The scores so far are written every few seconds, beside
the file that they are for; the same call again goes on from there, to the same bits.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from intermode.data import Source
from intermode.denoisers import NetworkDenoiser
from intermode.detect import SampleDetector
from intermode.errors import InputError
from intermode.files import load_tensors, save_tensors, write_text
from intermode.progress import Progress, Silent
from intermode.sampling import LOW_DIMENSIONAL_CHUNK, score
from intermode.scores import write_scores

__all__ = ["Scored", "chunk_for", "model_identity", "score_source"]

FORMAT = "intermode-scores-1"
CHUNK_NUMBERS = 2**18
"""Numbers in a chunk of large samples: a U-Net's activations are some thousand times as many bytes."""
KEEP_EVERY = 10.0
"""Seconds between two writings of the scores so far."""
TOLD_CLASSES = ("classes", "num_class_embeds", "class_embed_type")
"""Settings of networks that take ``class_labels``."""
TOLD = 5
"""Samples that could not be read which are told one by one; all of them are listed in a file."""


@dataclass(frozen=True)
class Scored:
    """What became of a data set.

    Attributes:
        samples: in the data set.
        skipped: that could not be read.
        listed: file that lists them, if there are any.
    """

    samples: int
    skipped: int
    listed: Path | None


def chunk_for(shape: Sequence[int]) -> int:
    """Samples of ``shape`` to compute together, so that memory stays bounded whatever their size."""
    return max(1, min(LOW_DIMENSIONAL_CHUNK, CHUNK_NUMBERS // int(np.prod(shape))))


def model_identity(denoiser: NetworkDenoiser, weights: str) -> dict[str, str]:
    """What tells a model from another one: its weights' digest, its schedule and what the network predicts."""
    levels = np.concatenate([denoiser.schedule.signal, denoiser.schedule.noise])
    schedule = hashlib.sha256(levels.tobytes()).hexdigest()[:16]
    return {"weights": weights, "schedule": schedule, "prediction": denoiser.prediction}


def score_source(
    detectors: Sequence[SampleDetector],
    denoiser: NetworkDenoiser,
    source: Source,
    out: Path,
    *,
    model: Mapping[str, str],
    settings: Mapping[str, Any],
    seed: int = 0,
    chunk: int | None = None,
    device: str = "cpu",
    strict: bool = False,
    progress: Progress | None = None,
) -> Scored:
    """Score every sample of a data set; a sample that cannot be read gets no score, and is listed.

    Args:
        detectors: names and columns are theirs.
        denoiser: on ``device``.
        source: opened with the denoiser's shape.
        out: see :func:`intermode.scores.write_scores`; ``<out>.skipped.csv`` lists what could not be read, and
            ``<out>.partial`` holds the scores until all are there.
        model: its identity (:func:`model_identity`).
        settings: of the detectors, for the record.
        seed: sample i's noise belongs to (seed, i).
        chunk: samples computed together; :func:`chunk_for` their shape unless given.
        device: where to compute.
        strict: stop at the first sample that cannot be read.
        progress: told how far it is.

    Raises:
        InputError: samples that do not fit, a class-conditional model, a detector that cannot score this schedule,
            scores so far of another run, or not one sample that can be read.
    """
    progress = progress or Silent()
    n = len(source)
    settings_of_network: Any = getattr(denoiser.network, "config", {})
    if any(settings_of_network.get(key) for key in TOLD_CLASSES):
        raise InputError("model: wants to be told the class of each sample; only models without classes can score data")
    for detector in detectors:
        detector.check(denoiser.schedule)
    names = [detector.name for detector in detectors]
    if out.suffix == ".npy" and len(names) > 1:
        raise InputError(f"out: {out} can hold one score; choose a .parquet or .csv file for {', '.join(names)}")
    size = min(chunk_for(denoiser.shape) if chunk is None else chunk, n)
    if size < 1:
        raise InputError(f"chunk: {size} must be at least 1")
    about = {
        "format": FORMAT,
        "version": version("intermode"),
        "data": {"form": source.form, "samples": n, "digest": source.digest()},
        "model": dict(model),
        "detectors": {"names": names, **settings},
        "seed": seed,
        "chunk": size,
        "device": device,
    }
    partial = _Partial(out.with_name(f"{out.name}.partial"), names, n, about)
    if partial.done:
        progress.notice(f"scoring goes on after sample {partial.done}")
    try:
        with progress.task("scoring", n, partial.done, "samples") as task:
            for block in source.blocks(size, partial.done):
                stop = block.first + len(block.values)
                for index, reason in block.unread.items():
                    name = source.ids(index, index + 1)[0]
                    if strict:
                        raise InputError(f"data: {name} of {source.path} cannot be read ({reason})")
                    if len(partial.skipped) < TOLD:
                        progress.notice(f"skipped {name}: {reason}")
                    partial.skipped[index] = reason
                for detector in detectors:
                    scores = score(
                        detector, denoiser, block.values, first=block.first, seed=seed, chunk=size, device=device
                    )
                    scores[[index - block.first for index in block.unread]] = np.nan
                    partial.columns[detector.name][block.first : stop] = scores
                task.advance(len(block.values))
                partial.reached(stop)
    except KeyboardInterrupt:
        partial.save()
        raise
    except InputError:
        partial.path.unlink(missing_ok=True)
        raise
    skipped = partial.skipped
    if len(skipped) == n:
        partial.path.unlink(missing_ok=True)
        raise InputError(
            f"data: none of the {n:,} samples of {source.path} can be read (first: {source.ids(0, 1)[0]}: {skipped[0]})"
        )
    listed = out.with_name(f"{out.name}.skipped.csv")
    if skipped:
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(["id", "reason"])
        lines.writerows([source.ids(k, k + 1)[0], skipped[k]] for k in sorted(skipped))
        write_text(listed, text.getvalue())
    else:
        listed.unlink(missing_ok=True)  # of an earlier run
    write_scores(out, source, partial.columns, about | {"skipped": len(skipped)})
    partial.path.unlink(missing_ok=True)
    return Scored(n, len(skipped), listed if skipped else None)


class _Partial:
    """The scores so far, in a file of their own."""

    def __init__(self, path: Path, names: Sequence[str], n: int, about: Mapping[str, Any]) -> None:
        self.path, self._about = path, dict(about)
        self.columns = {name: np.full(n, np.nan) for name in names}
        self.skipped: dict[int, str] = {}
        self.done = 0
        self._saved = time.monotonic()
        if not path.exists():
            return
        tensors, metadata = load_tensors(path)
        theirs = json.loads(metadata.get("about", "{}"))
        if differing := [key for key in self._about if theirs.get(key) != self._about[key]]:
            raise InputError(
                f"out: {path} holds the scores so far of another run ({', '.join(differing)} differ); remove it or "
                "choose another file"
            )
        for name in names:
            self.columns[name] = tensors[name].numpy()
        self.skipped = {int(k): reason for k, reason in json.loads(metadata["skipped"]).items()}
        self.done = int(metadata["done"])

    def reached(self, done: int) -> None:
        """Samples 0 .. done - 1 have their scores."""
        self.done = done
        if time.monotonic() - self._saved > KEEP_EVERY:
            self.save()

    def save(self) -> None:
        tensors = {name: torch.from_numpy(values) for name, values in self.columns.items()}
        more = {"about": json.dumps(self._about), "skipped": json.dumps(self.skipped), "done": str(self.done)}
        save_tensors(self.path, tensors, more)
        self._saved = time.monotonic()
