r"""A detector in the critical windows of the model: below each rise of decisions and in it (:mod:`intermode.critical`).

Scores of several windows are compared by their place among the scores S of the model's own finished samples,

.. math::
    z_w(x) = \frac{S_w(x) - q_{50}}{q_{90} - q_{50}}, \qquad S(x) = \max_w z_w(x)

with the quantiles of these in window w: 0 is the middle of them, 1 is where the highest tenth begins. Neither windows
nor quantiles need a label. They are found once for a model, and kept in memory; what that costs, some hundreds of
restarts, is told by ``intermode windows``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intermode.blocks import Plan
from intermode.critical import CriticalWindows, critical_windows
from intermode.denoisers import Denoiser
from intermode.detect import AtTimesteps, SampleDetector, describe
from intermode.detect.hal import Hal
from intermode.detect.window import Levels, Window, asks_critical, places
from intermode.errors import InputError
from intermode.jobs import digest
from intermode.progress import Progress
from intermode.samplers import Sampler, Step
from intermode.sampling import even_chunk, generate, score
from intermode.schedules import Schedule

__all__ = ["InWindows", "WatchingWindows", "in_critical_windows", "remember", "windows_of"]

SEED = 2**31
"""Of the samples that windows and quantiles are found with: apart from those that people choose."""
UPPER = 0.9
KEPT = 8
"""Models whose windows, and detectors whose quantiles, are kept."""

_found: dict[tuple[Any, ...], Any] = {}


def _kept(key: tuple[Any, ...], find: Callable[[], Any]) -> Any:
    if key not in _found:
        while len(_found) >= 4 * KEPT:
            del _found[next(iter(_found))]
        _found[key] = find()
    return _found[key]


def _key(denoiser: Denoiser) -> tuple[Any, ...]:
    return tuple(sorted(denoiser.identity.items()))


def _condition(denoiser: Denoiser, n: int) -> dict[str, Tensor]:
    """All classes in turn, of a model that is told one."""
    return {"class_labels": torch.arange(n) % denoiser.classes} if denoiser.classes else {}


def windows_of(denoiser: Denoiser, progress: Progress | None = None, sampler: Sampler | None = None) -> CriticalWindows:
    """The critical windows of a model, found the first time.

    Args:
        denoiser: the model.
        progress: shown to the user.
        sampler: draws its samples and comes down from restarts; that of ``critical_windows`` unless given.

    Raises:
        InputError: a model of which nothing is decided at any level.
    """

    def find() -> CriticalWindows:
        n = 128 if len(denoiser.shape) > 1 else 1000
        told: Any = {"condition": _condition(denoiser, n), "seed": SEED, "progress": progress}
        found = critical_windows(denoiser, n=n, sampler=sampler, **told)
        if not found.windows:
            raise InputError(
                "window: the model has no critical one, no share of its samples changes by more than noise explains; "
                "give timesteps"
            )
        return found

    return _kept(("windows", repr(sampler), *_key(denoiser)), find)


def remember(denoiser: Denoiser, found: CriticalWindows) -> None:
    """Take what was found elsewhere for the critical windows of a model; its samples are needed, too."""
    _kept(("windows", repr(None), *_key(denoiser)), lambda: found)


def in_critical_windows(
    detector: Any, denoiser: Denoiser | None, sampler: Sampler | None, known: CriticalWindows | None = None
) -> Any:
    """The detector in the critical windows of a model, if it asks for them.

    Args:
        detector: one with the window ``critical`` asks.
        denoiser: the model; None is refused.
        sampler: of a detector that watches the chain.
        known: the windows, with the samples that they were found with; those of :func:`windows_of` unless given.

    Raises:
        InputError: no model, or a detector that learns from training data.
    """
    if not asks_critical(detector):
        return detector
    if denoiser is None:
        raise InputError(
            f"window: {detector.name} cannot find the critical one without a model; give a pair of timesteps or an SNR"
        )
    if hasattr(detector, "fit"):
        raise InputError(f"window: {detector.name} learns from training data, in one window; give a pair of timesteps")
    found = (windows_of(denoiser) if known is None else known).windows
    if isinstance(detector, Hal):
        assert sampler is not None
        return WatchingWindows(detector.name, found, denoiser, sampler)
    return InWindows(detector, found, denoiser, None if known is None else known.x)


def _larger(scores: Sequence[Tensor], quantiles: np.ndarray) -> Tensor:
    """(B,) the largest of the standardised scores."""
    parts = [(s - middle) / (upper - middle) for s, (middle, upper) in zip(scores, quantiles, strict=True)]
    return torch.stack(parts).amax(0)


def _quantiles(scores: np.ndarray) -> np.ndarray:
    """The (W, 2) middle and upper quantiles of (W, n) scores."""
    middle, upper = np.quantile(scores, [0.5, UPPER], axis=1, method="lower")  # inf among them must not make NaN
    return np.stack([middle, np.maximum(upper, middle + 1e-12 + 1e-9 * np.abs(middle))], axis=1)


class InWindows:
    """A detector of finished samples in several windows.

    Args:
        detector: that asks the model at timesteps.
        windows: where.
        denoiser: whose own samples are scored first, to compare with.
        x: (n, *shape) these; the ones that its windows were found with unless given.
    """

    def __init__(
        self, detector: AtTimesteps, windows: Sequence[Window], denoiser: Denoiser, x: Tensor | None = None
    ) -> None:
        self._parts: list[SampleDetector] = [detector.moved(window) for window in windows]  # type: ignore[misc] # all are
        self.windows, self.name = tuple(windows), self._parts[0].name
        self._denoiser, self._own = denoiser, x

    @property
    def nfe(self) -> int:
        return sum(part.nfe for part in self._parts)

    @property
    def description(self) -> str:
        return f"critical windows: {'; '.join(map(describe, self._parts))}"

    def check(self, schedule: Schedule) -> None:
        for part in self._parts:
            part.check(schedule)

    @cached_property
    def quantiles(self) -> np.ndarray:
        """The (W, 2) quantiles of the model's own samples."""
        x = windows_of(self._denoiser).x if self._own is None else self._own

        def find() -> np.ndarray:
            told, chunk = _condition(self._denoiser, len(x)), even_chunk(len(x), x.shape[1:])
            settings: Any = {"seed": SEED, "chunk": chunk, "device": str(self._denoiser.device), **told}
            return _quantiles(np.stack([score(part, self._denoiser, x, **settings) for part in self._parts]))

        return _kept((self.description, self.name, digest(x), *_key(self._denoiser)), find)

    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], **condition: Any) -> Tensor:
        return _larger([part(denoiser, x, noise, **condition) for part in self._parts], self.quantiles)


class WatchingWindows:
    """Hal along the trajectory in several windows: in those that hold two steps of the chain.

    Args:
        name: of the score.
        windows: where.
        denoiser, sampler: whose own chains are watched first, to compare with.
    """

    nfe = 0

    def __init__(self, name: str, windows: Sequence[Window], denoiser: Denoiser, sampler: Sampler) -> None:
        self.name, self._denoiser, self._sampler = name, denoiser, sampler
        visited = list(places(denoiser.schedule, sampler.timesteps(denoiser.schedule)))
        self.windows = tuple(w for w in windows if sum(map(w.holds, visited)) >= 2)
        if not self.windows:
            raise InputError(
                f"window: the critical ones hold less than two of the {len(visited)} steps; take more steps"
            )
        self._parts = [Hal(window=window, name=f"{name}-{k}") for k, window in enumerate(self.windows)]

    @property
    def description(self) -> str:
        return f"hal in the critical windows t = {', '.join(map(str, self.windows))}"

    def check(self, schedule: Levels, timesteps: Sequence[int]) -> None:
        for part in self._parts:
            part.check(schedule, timesteps)

    @cached_property
    def quantiles(self) -> np.ndarray:
        """The (W, 2) quantiles of the model's own chains."""

        def find() -> np.ndarray:
            n = len(windows_of(self._denoiser).x)
            shape, device = self._denoiser.shape, str(self._denoiser.device)
            plan = Plan(n, shape, SEED + 1, even_chunk(n, shape), device=device)
            watching = [Hal(window=part.window, name=part.name) for part in self._parts]
            told: Any = _condition(self._denoiser, n)
            drawn = generate(self._denoiser, self._sampler, plan, watching, **told)
            return _quantiles(np.stack([drawn.scores[part.name] for part in watching]))

        return _kept((self.description, self.name, repr(self._sampler), *_key(self._denoiser)), find)

    def start(self, shape: Sequence[int]) -> None:
        for part in self._parts:
            part.start(shape)

    def update(self, step: Step) -> None:
        for part in self._parts:
            part.update(step)

    def score(self) -> Tensor:
        return _larger([part.score() for part in self._parts], self.quantiles)
