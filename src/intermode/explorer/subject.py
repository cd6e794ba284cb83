"""What a page is about: a data set with its scores, and whatever else is known of its samples.

In a run of a study the data set is a *pool*: a finished job that holds ``samples`` and a ``score.NAME`` for each
detector. Jobs that read it say more: which samples are ``hallucinated``, and by which rule; and how ``x0_hat``
(K, m, ...) moved over ``timesteps`` (K,), for the m samples whose ``rows`` are among the facts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from intermode.data import Source, open_source
from intermode.errors import InputError
from intermode.files import read_json
from intermode.filtering import groups_of, hallucinated_of, scores_for, scores_from
from intermode.jobs import Done, read_done
from intermode.scores import scores_beside

__all__ = ["Looked", "Subject", "Trajectories", "is_pool", "is_run", "most_first", "open_subject"]

CLASSES = ("condition.class_labels", "label")
"""Columns that are taken for classes unless others are named: of samples drawn by class, and of image folders."""
MOST_CLASSES = 200
"""More than these are no classes: prompts, say."""
SAMPLES = "samples.safetensors"
TENSORS = "tensors.safetensors"


@dataclass(frozen=True)
class Trajectories:
    """x0_hat of some samples.

    Attributes:
        rows: of the m samples.
        timesteps: (K,) falling.
        x0_hat: (K, m, *shape).
    """

    rows: list[int]
    timesteps: np.ndarray
    x0_hat: np.ndarray


class Looked(Protocol):
    """What a page asks of n samples; see :class:`intermode.data.source.Source`."""

    path: Path

    @property
    def has_pictures(self) -> bool: ...

    def __len__(self) -> int: ...

    def ids(self, first: int, stop: int) -> list[str]: ...

    def pictures(self, indices: Sequence[int]) -> list[np.ndarray | None]: ...


@dataclass(frozen=True)
class Subject:
    """A data set of n samples and what is known of them.

    Attributes:
        source: the data set.
        column: of a table, that holds the samples.
        scores: (n,) float64 by name, NaN for a sample without one; that of the most samples first; may be empty.
        scored_by: the file that they came from, unless the data set itself.
        within: name of a column or file of labels, and (n,) words; None without.
        hallucinated: (n,) 0 or 1, NaN where it is not known; None without.
        rules: (n,) why a sample is hallucinated, in words; None without.
        trajectories: None without.
        missing: what a user might expect and there is not, a line each.
        call: of samples in memory, the words of the call of :func:`intermode.filter` before ``, kept=``, and those that
            cut within classes; None for samples in files, which a command filters.
    """

    source: Looked
    column: str | None = None
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    scored_by: Path | None = None
    within: tuple[str, np.ndarray] | None = None
    hallucinated: np.ndarray | None = None
    rules: np.ndarray | None = None
    trajectories: Trajectories | None = None
    missing: tuple[str, ...] = ()
    call: tuple[str, str] | None = None

    def __len__(self) -> int:
        return len(self.source)


def is_run(path: Path) -> bool:
    """Whether it is the run folder of a study."""
    return (path / "jobs").is_dir()


def is_pool(done: Done) -> bool:
    """Whether a finished job keeps samples."""
    return _holds(done, "samples")


def open_subject(
    path: Path,
    *,
    scores: Path | None = None,
    labels: Path | None = None,
    within: str | None = None,
    column: str | None = None,
) -> Subject:
    """What lies at ``path``.

    Args:
        path: a data set (:func:`intermode.data.open_source`), a folder that ``sample`` wrote, a run of a study, or the
            folder of a pool in it.
        scores, labels, within, column: as :func:`intermode.filter` takes them.

    Raises:
        InputError: what :func:`intermode.filter` would refuse, or a run of no pool or several.
    """
    if is_run(path):
        path = _only_pool(path)
    if path.is_dir() and (path / SAMPLES).is_file():
        path = path / SAMPLES
    pool = read_done(path) if path.is_dir() else None
    source = open_source(path if pool is None else path / TENSORS, column=column)
    found = Subject(source, column)
    if scores is not None or scores_beside(source.path) is not None:
        known = scores_for(None, source, scores)
        found = replace(found, scores=most_first(known.columns), scored_by=scores)
    if not found.scores:
        what = "the data holds none" if scores is None else f"{scores} holds only NaN"
        found = replace(found, missing=(f"scores: {what}; give some to see a threshold",))
    if within is not None:
        # None leaves out nothing: each sample must have a label
        words = np.empty(len(found), dtype=object)
        for label, rows in groups_of(within, len(found), source):
            words[rows] = label
        found = replace(found, within=(within, words.astype(str)))
    else:
        found = replace(found, within=_classes(source))
    if labels is not None:
        found = replace(found, hallucinated=hallucinated_of(scores_from(labels, "labels"), len(found), source))
    return found if pool is None else _told(found, pool)


def most_first(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scores (n,) by name, that of the most samples first, without those that no sample has."""
    unscored = {name: int(np.isnan(values).sum()) for name, values in scores.items()}
    names = sorted((name for name in scores if unscored[name] < len(scores[name])), key=lambda name: unscored[name])
    return {name: scores[name] for name in names}


def _only_pool(run: Path) -> Path:
    pools = [done for done in _finished(run / "jobs") if is_pool(done)]
    if len(pools) == 1:
        return pools[0].folder
    if not pools:
        raise InputError(f"samples: {run} holds no samples; only runs that keep a pool can be looked through")
    listed = ", ".join(str(pool.folder) for pool in pools)
    raise InputError(f"samples: {run} holds several pools; give one of {listed}")


def _classes(source: Source) -> tuple[str, np.ndarray] | None:
    for name in CLASSES:
        try:
            words = source.column(name)
        except InputError:
            continue
        if 1 < len(np.unique(words)) <= MOST_CLASSES:
            return name, words
    return None


def _finished(jobs: Path) -> list[Done]:
    found = (read_done(folder) for folder in sorted(jobs.iterdir()) if folder.is_dir())
    return [done for done in found if done is not None]


def _holds(done: Done, *names: str) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(done.folder / TENSORS, framework="pt") as file:
            return set(names) <= set(file.keys())
    except (OSError, SafetensorError):
        return False


def _readers(pool: Done) -> Iterator[Done]:
    """The finished jobs beside a pool that read it."""
    for done in _finished(pool.folder.parent):
        if pool.folder.name in read_json(done.folder / "job.json")["inputs"].values():
            yield done


def _told(found: Subject, pool: Done) -> Subject:
    """What the jobs say that read a pool."""
    for done in _readers(pool):
        if found.hallucinated is None and _holds(done, "hallucinated"):
            tensors = done.tensors()
            found = replace(found, hallucinated=tensors["hallucinated"].double().numpy())
            if "rule" in tensors:
                found = replace(found, rules=np.array(done.facts["rules"])[tensors["rule"].numpy()])
        if found.trajectories is None and done.facts and done.facts.get("rows") and _holds(done, "timesteps", "x0_hat"):
            tensors = done.tensors()
            moved = Trajectories(done.facts["rows"], tensors["timesteps"].numpy(), tensors["x0_hat"].numpy())
            found = replace(found, trajectories=moved)
    return found
