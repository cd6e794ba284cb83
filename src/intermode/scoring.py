r"""Scores of finished samples: of those in memory, or of a whole data set, streamed.

Of a data set a block of samples and 8 bytes for each score are held. The scores so far are written every few seconds,
beside the file that they are for; the same call again goes on from there, to the same bits.

A model that is told classes may be told those of the samples. If nobody knows them, every class c is tried, and

.. math::
    S(x) = \min_c S(x \mid c)

counts, with the same noise for all classes: a sample is as suspect as it is under the class that suits it best.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intermode import sampling
from intermode.data import Source
from intermode.denoisers import Denoiser, UnknownShape
from intermode.detect import SampleDetector
from intermode.detect.registry import DEFAULTS, Detectors, Setting, resolve
from intermode.errors import InputError
from intermode.files import load_tensors, save_tensors, write_text
from intermode.models import as_denoiser
from intermode.progress import Progress, Silent
from intermode.sampling import as_condition, chunk_for, even_chunk, fit_detectors
from intermode.schedules import Schedule
from intermode.scores import write_scores
from intermode.values import as_whole
from intermode.verbs import as_samples, shown, strict

__all__ = ["EveryClass", "Scored", "score", "score_source"]

FORMAT = "intermode-scores-1"
KEEP_EVERY = 10.0
"""Seconds between two writings of the scores so far."""
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


@strict
def score(
    model: Denoiser | str | Path,
    x: Any,
    detectors: Detectors = (DEFAULTS["finished"],),
    *,
    condition: Mapping[str, Any] | None = None,
    fit: Any = None,
    seed: int = 0,
    chunk: int | None = None,
    progress: Progress | bool | None = None,
) -> dict[str, np.ndarray]:
    """Score finished samples, wherever they come from.

    Args:
        model: a denoiser, or what :func:`intermode.load` takes.
        x: (n, *shape) samples, an array, list, tensor or number; images in -1..1, or bytes.
        detectors: objects, names, or a sequence of both; unless given ``lid``. ``hal`` is here that of samples noised
            again.
        condition: what the model is told, ``{"class_labels": ...}``: (n,) values, or one class for all. Without labels
            a model that is told classes tries each of them, and the smallest score counts.
        fit: training data (m, *shape) for the detectors that learn from some: ``knn``, ``realism``, ``diffpath``, ...
        seed: sample i's noise belongs to (seed, i).
        chunk: samples computed together; unless given as many as memory allows for samples of their size.
        progress: True shows a bar.

    Returns:
        (n,) float64 scores of each detector by its name, larger = more suspect.

    Raises:
        InputError: samples that do not fit the model, or a detector that looks at samples while they are made.
    """
    denoiser = as_denoiser(model)
    try:
        samples = as_samples("x", x, denoiser.shape).to(denoiser.dtype)
    except UnknownShape:  # they say it themselves
        samples = as_samples("x", x).to(denoiser.dtype)
    shape = tuple(samples.shape[1:])
    if len(samples) == 0:
        raise InputError("x: there are no samples to score")
    found = resolve(detectors, Setting(shape, timesteps=len(denoiser.schedule)), "finished")
    if fit is not None:
        fit_detectors(found, denoiser, as_samples("fit", fit, shape), seed)
    told = as_condition(condition, len(samples), denoiser)
    settings: dict[str, Any] = {
        "seed": as_whole("seed", seed, 0),
        "chunk": even_chunk(len(samples), shape, chunk),
        "device": str(denoiser.device),
        "progress": shown(progress),
    }
    tried = [_for_classes(detector, denoiser, told) for detector in found]
    return {d.name: sampling.score(d, denoiser, samples, **settings, **told) for d in tried}


class EveryClass:
    """A detector under each class in turn, with the same noise; the smallest score counts.

    Args:
        detector: of finished samples.
        classes: how many there are.
    """

    def __init__(self, detector: SampleDetector, classes: int) -> None:
        self.detector, self.classes, self.name = detector, classes, detector.name

    @property
    def nfe(self) -> int:
        return self.classes * self.detector.nfe

    def check(self, schedule: Schedule) -> None:
        self.detector.check(schedule)

    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], **condition: Any) -> Tensor:
        drawn: list[Tensor] = []
        scores = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        for label in range(self.classes):
            labels = torch.full((len(x),), label, device=x.device)
            found = self.detector(denoiser, x, _again(noise, drawn), class_labels=labels, **condition)
            scores = torch.minimum(scores, found)
        return scores


def _again(noise: Callable[[], Tensor], drawn: list[Tensor]) -> Callable[[], Tensor]:
    """The noises drawn before, in their order, and new ones after them."""
    place = 0

    def draw() -> Tensor:
        nonlocal place
        if place == len(drawn):
            drawn.append(noise())
        place += 1
        return drawn[place - 1]

    return draw


def _for_classes(detector: SampleDetector, denoiser: Denoiser, told: Mapping[str, Any]) -> SampleDetector:
    """The detector, or that which tries every class, where the denoiser is to be told one and nobody says which."""
    classes = denoiser.classes
    if classes == 0 or "class_labels" in told or not detector.nfe:
        return detector
    if classes is None:
        raise InputError("condition: the model is told classes that cannot be tried; give {'class_labels': ...}")
    return EveryClass(detector, classes)


def score_source(
    detectors: Sequence[SampleDetector],
    denoiser: Denoiser,
    source: Source,
    out: Path,
    *,
    settings: Mapping[str, Any],
    condition: Mapping[str, Any] | None = None,
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
        settings: of the detectors, for the record.
        condition: what the model is told of all n samples, as of :func:`score`.
        seed: sample i's noise belongs to (seed, i).
        chunk: samples computed together; as many as memory allows for samples of their size unless given.
        device: where to compute.
        strict: stop at the first sample that cannot be read.
        progress: told how far it is.

    Raises:
        InputError: samples that do not fit, a detector that cannot score this schedule, scores so far of another run,
            or not one sample that can be read.
    """
    progress = progress or Silent()
    n = len(source)
    told = as_condition(condition, n, denoiser)
    detectors = [_for_classes(detector, denoiser, told) for detector in detectors]
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
        "model": denoiser.identity,
        "detectors": {"names": names, **settings, **_of_classes(denoiser, told)},
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
                own: dict[str, Any] = {
                    name: value[block.first : stop] if isinstance(value, Tensor) else value
                    for name, value in told.items()
                }
                for detector in detectors:
                    scores = sampling.score(
                        detector,
                        denoiser,
                        block.values,
                        first=block.first,
                        seed=seed,
                        chunk=size,
                        device=device,
                        **own,
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


def _of_classes(denoiser: Denoiser, told: Mapping[str, Any]) -> dict[str, str]:
    """For the record, of a model that is told classes: which."""
    if "class_labels" in told:
        return {"classes": hashlib.sha256(told["class_labels"].cpu().numpy().tobytes()).hexdigest()[:16]}
    return {"classes": f"the best of {denoiser.classes}"} if denoiser.classes else {}


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
