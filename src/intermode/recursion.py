r"""Training on one's own output, generation after generation (paper: section 6).

Generation 0 is trained on real data. The model of generation g makes a pool of samples, a *selector* chooses those
that train generation g + 1, and so on:

    real ─▶ model 0 ─▶ pool 0 ─select─▶ model 1 ─▶ pool 1 ─select─▶ ...

An *arm* is a selector followed through all generations: ``all`` (the first samples as they come), ``random`` (as
many, from a larger pool), or the name of a detector's score (those with the lowest scores of the same pool; the
paper's is ``hal``). All arms of a seed share generation 0. The synthetic-only loop of the paper is the default;
``fresh`` mixes in new real data (Bertrand et al. 2023) and ``accumulate`` keeps the data of all earlier
generations (Gerstgrasser et al. 2024).

Diverged samples cannot be trained on: no selector chooses them, and every generation counts them.

Every generation is a folder (model, pool, ``row.json``) and is made once: a killed run goes on where it was. Data
and networks belong to (seed, generation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from intermode.errors import InputError
from intermode.files import read_json, write_json
from intermode.noise import draws
from intermode.progress import Progress, Silent
from intermode.sampling import Samples

__all__ = ["Arm", "Data", "Recursion", "Setting", "select", "training_data"]

UNSCORED = ("all", "random")
"""Selectors that look at no score."""
PER_CLASS = "-per-class"
"""Behind the name of a score: as many of each class, not the lowest of all."""


@dataclass(frozen=True)
class Data:
    """What a generation is trained on.

    Attributes:
        x: (n, *shape) samples.
        labels: (n,) their classes, if they have any.
    """

    x: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: slice | Tensor) -> Data:
        """Some of the samples."""
        return Data(self.x[rows], None if self.labels is None else self.labels[rows])

    @staticmethod
    def join(parts: Sequence[Data]) -> Data:
        """All parts, one after the other; either all of them have labels or none."""
        labels = [part.labels for part in parts if part.labels is not None]
        return Data(torch.cat([part.x for part in parts]), torch.cat(labels) if labels else None)


class Setting(Protocol):
    """What a recursion needs of an experiment."""

    def real(self, n: int, seed: int) -> Data:
        """n real samples."""

    def fit_and_draw(self, data: Data, n: int, seed: int, folder: Path) -> Samples:
        """Train on ``data`` and draw a pool of n samples; all files in ``folder``, resumable.

        The classes that samples were drawn with are the pool's condition ``class_labels``.
        """

    def measure(self, pool: Samples) -> dict[str, Any]:
        """The numbers of a generation's row."""


@dataclass(frozen=True)
class Arm:
    """A selector followed through generations 0 .. ``generations``.

    Attributes:
        selector: ``all``, ``random`` or the name of a score.
        generations: the last generation.
    """

    selector: str
    generations: int


def select(selector: str, pool: Samples, keep: int, seed: int, generation: int) -> np.ndarray:
    """(keep,) rows of the pool that train the next generation, in rising order; fewer if too many diverged.

    With ``-per-class``, each class of the pool gets an equal share, the first ones one more where that does not divide.

    Raises:
        InputError: a selector that is neither ``all``, ``random`` nor a score of the pool, or classes that are not
            known.
    """
    usable = np.flatnonzero(~pool.diverged)
    if selector == "all":
        return usable[:keep]
    if selector == "random":
        order = draws(seed, "select", generation).permutation(len(usable))
        return np.sort(usable[order[:keep]])
    name = selector.removesuffix(PER_CLASS)
    if name not in pool.scores:
        raise InputError(f"selector: unknown {selector!r}; choose all, random or {', '.join(pool.scores)}")
    ordered = usable[np.argsort(pool.scores[name][usable], kind="stable")]
    if name == selector:
        return np.sort(ordered[:keep])
    if "class_labels" not in pool.condition:
        raise InputError(f"selector: {selector} needs the classes of the pool")
    labels = pool.condition["class_labels"].numpy()
    classes = np.unique(labels)
    quotas = [keep // len(classes) + (k < keep % len(classes)) for k in range(len(classes))]
    found = [ordered[labels[ordered] == c][:quota] for c, quota in zip(classes, quotas, strict=True)]
    return np.sort(np.concatenate(found))


def training_data(
    past: Sequence[Data],
    keep: int,
    generation: int,
    real: Callable[[int], Data],
    *,
    fresh: float = 0.0,
    accumulate: bool = False,
) -> Data:
    """What a generation after 0 is trained on.

    Args:
        past: what was selected of the pools before, the last one last.
        keep: samples that generation 0 was trained on.
        generation: 1 or more.
        real: its first n samples, for n; the first ``keep`` trained generation 0.
        fresh: share that is real data which no generation has seen, in place of the end of the rest.
        accumulate: train on all of ``past`` and generation 0's real data, not on the last alone.
    """
    data = Data.join([real(keep), *past]) if accumulate else past[-1]
    count = round(fresh * keep)
    if count == 0:
        return data
    new = real(keep + generation * count).take(slice(-count, None))
    return Data.join([data.take(slice(len(data) - count)), new])


@dataclass(frozen=True)
class Recursion:
    """The loop for one seed.

    Args:
        keep: samples that train a generation.
        extra: how many more the pool holds, which selectors leave out.
        fresh: share of each generation's training data that is new real data, 0..1.
        accumulate: train on the selected data of all earlier generations and the real data as well.

    Raises:
        InputError: keep < 1, extra < 0, or fresh outside [0, 1].
    """

    keep: int
    extra: int
    fresh: float = 0.0
    accumulate: bool = False

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise InputError(f"keep: {self.keep} must be at least 1")
        if self.extra < 0:
            raise InputError(f"extra: {self.extra} must be at least 0; the pool would be smaller than what is kept")
        if not 0 <= self.fresh <= 1:
            raise InputError(f"fresh: {self.fresh} is outside 0..1")

    def run(
        self,
        setting: Setting,
        arms: Sequence[Arm],
        seed: int,
        folder: Path,
        *,
        progress: Progress | None = None,
    ) -> dict[str, list[dict[str, Any]]]:
        """Follow the arms.

        Args:
            setting: the experiment.
            arms: each selector once; with none, generation 0 alone is made.
            seed: of everything.
            folder: one subfolder for each generation of each arm.
            progress: for notices.

        Returns:
            the rows of each arm, generation 0 first: ``generation``, ``seed``, ``diverged``, ``trained_on`` and what
            the setting measures.

        Raises:
            InputError: generations < 1, or a selector that is not known.
        """
        for arm in arms:
            if arm.generations < 1:
                raise InputError(f"generations: {arm.generations} must be at least 1")
        progress = progress or Silent()
        real = setting.real(self.keep, seed)
        # generation 0 has seen no selection: it is the same for all arms
        first = self._generation(setting, real, seed, 0, folder / "generation-00", progress)
        rows: dict[str, list[dict[str, Any]]] = {}
        for arm in arms:
            past, (pool, row) = [real], first
            rows[arm.selector] = [row]
            for generation in range(1, arm.generations + 1):
                chosen = select(arm.selector, pool, self.keep, seed, generation)
                classes = pool.condition.get("class_labels")
                past.append(Data(pool.x, classes).take(torch.from_numpy(chosen)))
                data = self._training_data(setting, past, seed, generation)
                place = folder / arm.selector / f"generation-{generation:02d}"
                pool, row = self._generation(setting, data, seed, generation, place, progress)
                rows[arm.selector].append(row)
        return rows

    def _training_data(self, setting: Setting, past: list[Data], seed: int, generation: int) -> Data:
        data = Data.join(past) if self.accumulate else past[-1]
        count = round(self.fresh * self.keep)
        if count == 0:
            return data
        # beyond the draws of generation 0: fresh data has not been seen before
        new = setting.real(self.keep + generation * count, seed).take(slice(-count, None))
        return Data.join([data.take(slice(len(data) - count)), new])

    def _generation(
        self, setting: Setting, data: Data, seed: int, generation: int, place: Path, progress: Progress
    ) -> tuple[Samples, dict[str, Any]]:
        # the seed of a generation's weights and noise: another for each, or every pool would repeat the last
        pool = setting.fit_and_draw(data, self.keep + self.extra, seed + 1000 * generation, place)
        record = place / "row.json"
        if record.exists():
            try:
                return pool, dict(read_json(record))
            except InputError as error:
                progress.notice(f"{error}; measured again")
        row: dict[str, Any] = {
            "generation": generation,
            "seed": seed,
            "diverged": int(pool.diverged.sum()),
            "trained_on": len(data),
            **setting.measure(pool),
        }
        write_json(record, row)
        return pool, row
