r"""Scores of finished samples: of those in memory, or of a whole data set, streamed.

Of a data set a chunk of samples and 8 bytes for each score are held. It is scored by blocks (:mod:`intermode.blocks`),
which several workers may share; an interrupted call made again goes on with the blocks that are missing, to the same
bits.

A model that is told classes may be told those of the samples. If nobody knows them, every class c is tried, and

.. math::
    S(x) = \min_c S(x \mid c)

counts, with the same noise for all classes: a sample is as suspect as it is under the class that suits it best.
"""

from __future__ import annotations

import csv
import hashlib
import io
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intermode import sampling
from intermode.blocks import split
from intermode.data import Block, Source, open_source
from intermode.denoisers import Denoiser, UnknownShape
from intermode.detect import SampleDetector
from intermode.detect.registry import DEFAULTS, Detectors, Setting, resolve
from intermode.engines import do
from intermode.errors import InputError
from intermode.files import write_text
from intermode.jobs import Running
from intermode.models import as_denoiser
from intermode.progress import Progress, Silent
from intermode.sampling import as_condition, chunk_for, even_chunk, fit_detectors
from intermode.schedules import Schedule
from intermode.scores import write_scores
from intermode.values import as_whole
from intermode.verbs import as_samples, shown, strict

__all__ = ["EveryClass", "Scored", "score", "score_source"]

FORMAT = "intermode-scores-1"
TOLD = 5
"""Samples of a block that could not be read which are told one by one; all of them are listed in a file."""


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
    found = resolve(detectors, Setting(shape, timesteps=len(denoiser.schedule), model=denoiser), "finished")
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
    column: str | None = None,
    strict: bool = False,
    workers: int = 1,
    on: str | None = None,
    progress: Progress | None = None,
) -> Scored:
    """Score every sample of a data set; a sample that cannot be read gets no score, and is listed.

    Args:
        detectors: names and columns are theirs.
        denoiser: on ``device``.
        source: opened with the denoiser's shape.
        out: see :func:`intermode.scores.write_scores`; ``<out>.skipped.csv`` lists what could not be read, and the
            folder ``.<out>.jobs`` beside it holds the scores so far.
        settings: of the detectors, for the record.
        condition: what the model is told of all n samples, as of :func:`score`.
        seed: sample i's noise belongs to (seed, i).
        chunk: samples computed together; as many as memory allows for samples of their size unless given.
        device: where to compute.
        column: of a table, that holds the samples, as the source was opened.
        strict: stop at the first sample that cannot be read.
        workers, on: who shares the work; see :func:`intermode.engines.engine`.
        progress: told how far it is.

    Raises:
        InputError: samples that do not fit, a detector that cannot score this schedule, or not one sample that can be
            read.
    """
    progress = progress or Silent()
    n, seed = len(source), as_whole("seed", seed, 0)
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
    place = out.with_name(f".{out.name}.jobs")
    _reader.cache_clear()  # the data may have been changed since
    given = {"denoiser": denoiser, "detectors": detectors, "condition": told, "strict": strict}
    given |= {"source": (source.path, denoiser.shape, column)}
    job = split("scores", score_block, about, n, size, given=given)
    try:
        done = do(job, place, workers=workers, on=on, device=device, progress=progress)
    except (InputError, OSError):
        # strict: the data has to be mended, and is other data then
        if strict or not any(place.glob("*/result.json")):
            shutil.rmtree(place, ignore_errors=True)
        raise
    columns = done.tensors()
    unread = columns.pop("unread").nonzero()[:, 0].tolist()
    if len(unread) == n:
        shutil.rmtree(place, ignore_errors=True)
        raise InputError(f"data: none of the {n:,} samples of {source.path} can be read ({_why(source, unread[0])})")
    listed = out.with_name(f"{out.name}.skipped.csv")
    if unread:
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(["id", "reason"])
        lines.writerows([source.ids(row, row + 1)[0], _why(source, row)] for row in unread)
        write_text(listed, text.getvalue())
    else:
        listed.unlink(missing_ok=True)  # of an earlier run
    write_scores(out, source, {name: v.numpy() for name, v in columns.items()}, about | {"skipped": len(unread)})
    shutil.rmtree(place, ignore_errors=True)
    return Scored(n, len(unread), listed if unread else None)


def _why(source: Source, row: int) -> str:
    """Why a sample cannot be read."""
    return next(source.blocks(1, row)).unread.get(row, "it could not be read when it was scored")


class _Reader:
    """Reads a data set block after block: a job that begins where the last one ended goes on reading, since a table of
    one piece would be read from its beginning each time."""

    def __init__(self, source: Source) -> None:
        self.source, self._at, self._size = source, -1, 0
        self._blocks: Iterator[Block] = iter(())

    def rows(self, size: int, first: int, last: int) -> Iterator[Block]:
        """Samples first .. last - 1, ``size`` at a time; ``first`` is a multiple of it."""
        if (self._at, self._size) != (first, size):
            self._blocks, self._size = self.source.blocks(size, first), size
        self._at = first
        while self._at < last:
            block = next(self._blocks)
            self._at += len(block.values)
            yield block


@lru_cache(maxsize=1)
def _reader(path: Path, shape: tuple[int, ...], column: str | None, run: str) -> _Reader:
    """Kept for the blocks that come next in this ``run``: a large folder takes its time to be listed."""
    return _Reader(open_source(path, shape, column=column))


def score_block(running: Running) -> None:
    """The scores of some consecutive samples of a data set, as a job: a column for each detector."""
    given, config, (first, last) = running.given, running.config, running.config["rows"]
    reader, size = _reader(*given["source"], str(running.folder.parent)), config["chunk"]
    source = reader.source
    columns = {
        detector.name: torch.full((last - first,), torch.nan, dtype=torch.float64) for detector in given["detectors"]
    }
    unread = torch.zeros(last - first, dtype=torch.bool)
    notices = 0
    with running.progress.task("scoring", last - first, 0, "samples") as task:
        for block in reader.rows(size, first, last):
            begin, stop = block.first - first, block.first - first + len(block.values)
            for index, reason in block.unread.items():
                name = source.ids(index, index + 1)[0]
                if given["strict"]:
                    raise InputError(f"data: {name} of {source.path} cannot be read ({reason})")
                if notices < TOLD:
                    running.progress.notice(f"skipped {name}: {reason}")
                notices += 1
                unread[index - first] = True
            own: dict[str, Any] = {
                name: value[block.first : block.first + len(block.values)] if isinstance(value, Tensor) else value
                for name, value in given["condition"].items()
            }
            for detector in given["detectors"]:
                scores = sampling.score(
                    detector,
                    given["denoiser"],
                    block.values,
                    first=block.first,
                    seed=config["seed"],
                    chunk=size,
                    device=running.device,
                    **own,
                )
                columns[detector.name][begin:stop] = torch.from_numpy(scores)
            task.advance(len(block.values))
    for column in columns.values():
        column[unread] = torch.nan
    running.save({**columns, "unread": unread})


def _of_classes(denoiser: Denoiser, told: Mapping[str, Any]) -> dict[str, str]:
    """For the record, of a model that is told classes: which."""
    if "class_labels" in told:
        return {"classes": hashlib.sha256(told["class_labels"].cpu().numpy().tobytes()).hexdigest()[:16]}
    return {"classes": f"the best of {denoiser.classes}"} if denoiser.classes else {}
