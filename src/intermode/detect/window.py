r"""Windows: which steps of a trajectory a detector looks at.

A step is at place k of K in its trajectory, at timestep t, and at the noise level (a_t, s_t) of
:math:`q(x_t \mid x_0) = \mathcal N(a_t x_0, s_t^2 I)`. A window is a range of one of these:

* :class:`Window`: of t, as the paper writes it ("t = 0 to t = 15");
* :class:`Fraction`: of :math:`(k + \tfrac12) / K`, from 0 (noise) to 1 (data);
* :class:`SNR`: of the signal-to-noise ratio :math:`a_t^2 / s_t^2`.

Timesteps mean one thing in one schedule only, and a fraction depends on how the steps are spaced. The
signal-to-noise ratio is all that a denoiser knows of its place (Kingma et al. 2021, section 4): a window of it is
the same for every schedule, sampler and number of steps.

Wherever a window is asked for, a pair of timesteps is one too (:func:`as_window`), and ``critical``: the windows in
which the model decides what a sample is (:mod:`intermode.critical`), found when the model is known.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from intermode.errors import InputError

__all__ = [
    "CRITICAL",
    "IMAGE_WINDOW",
    "SNR",
    "Critical",
    "Fraction",
    "Levels",
    "Place",
    "StepWindow",
    "Window",
    "as_window",
    "asks_critical",
    "places",
    "spread",
]


class Levels(Protocol):
    """What a window needs of a schedule; :class:`intermode.schedules.Schedule` is one."""

    def __len__(self) -> int:
        """T, the number of timesteps."""

    def level(self, t: int) -> tuple[float, float]:
        """(a_t, s_t) of one timestep."""


class Place(Protocol):
    """Where in its trajectory a step is; :class:`intermode.samplers.Step` is one."""

    @property
    def index(self) -> int:
        """0, 1, ... in the order of sampling."""

    @property
    def t(self) -> int:
        """The timestep."""

    @property
    def steps(self) -> int | None:
        """Steps of the whole trajectory."""

    @property
    def level(self) -> tuple[float, float] | None:
        """(a_t, s_t)."""


class StepWindow(Protocol):
    """A range of steps."""

    def holds(self, step: Place) -> bool:
        """Whether the step counts."""

    def check(self, schedule: Levels, timesteps: Sequence[int]) -> None:
        """Raise InputError unless at least two of the visited timesteps fall in the window."""


@dataclass(frozen=True)
class _Planned:
    index: int
    t: int
    steps: int
    level: tuple[float, float]


def places(schedule: Levels, timesteps: Sequence[int]) -> Iterator[Place]:
    """The places of steps to come."""
    for index, t in enumerate(timesteps):
        yield _Planned(index, t, len(timesteps), schedule.level(t))


def _need_two(window: StepWindow, visited: int, timesteps: Sequence[int]) -> None:
    if visited < 2:
        raise InputError(
            f"window: {window} holds {visited} of the {len(timesteps)} visited timesteps; a variance needs at least 2"
        )


@dataclass(frozen=True)
class Window:
    """The timesteps ``low .. high``, both included, as the paper writes them ("t = 0 to t = 15").

    Raises:
        InputError: an empty window, or one that starts below 0.
    """

    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low < 0 or self.high < self.low:
            raise InputError(f"window: {self.low}..{self.high} is empty or starts below 0; need 0 <= low <= high")

    def __str__(self) -> str:
        return f"{self.low}..{self.high}"

    def __contains__(self, t: int) -> bool:
        return self.low <= t <= self.high

    def holds(self, step: Place) -> bool:
        return step.t in self

    def check(self, schedule: Levels, timesteps: Sequence[int]) -> None:
        """Raise unless the window lies in [0, T) and at least two visited timesteps fall in it."""
        if self.high >= len(schedule):
            raise InputError(f"window: {self} is not inside 0..{len(schedule) - 1}, the timesteps")
        _need_two(self, sum(t in self for t in timesteps), timesteps)


@dataclass(frozen=True)
class Fraction:
    """A part of the trajectory, by the number of steps: 0 is its noisy beginning, 1 its end.

    Step k of K is at (k + 1/2) / K, so that windows that touch share no step: the last tenth of 50 steps is 5.

    Args:
        begin, end: 0 <= begin < end <= 1.

    Raises:
        InputError: bounds that are not such.
    """

    begin: float
    end: float

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end <= 1:
            raise InputError(f"window: {self.begin:g} to {self.end:g} must satisfy 0 <= begin < end <= 1")

    def __str__(self) -> str:
        return f"{self.begin:g}..{self.end:g} of the steps"

    def holds(self, step: Place) -> bool:
        if step.steps is None:
            raise InputError("step: says not how many steps there are; a window that is a fraction needs it")
        return self.begin <= (step.index + 0.5) / step.steps < self.end

    def check(self, schedule: Levels, timesteps: Sequence[int]) -> None:
        """Raise unless at least two of the visited timesteps fall in the window."""
        _need_two(self, sum(map(self.holds, places(schedule, timesteps))), timesteps)


@dataclass(frozen=True)
class SNR:
    """The steps whose signal-to-noise ratio a_t^2 / s_t^2 lies in ``low .. high``, both included.

    Raises:
        InputError: bounds that are not 0 <= low < high.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high:
            raise InputError(f"window: a signal-to-noise ratio of {self.low:g} to {self.high:g}; need 0 <= low < high")

    @classmethod
    def of_sigma(cls, low: float, high: float) -> SNR:
        """The same as a range of the noise level sigma = s_t / a_t (Karras et al. 2022), 0 < low < high."""
        if not 0 < low < high:
            raise InputError(f"window: a sigma of {low:g} to {high:g}; need 0 < low < high")
        return cls(high**-2, low**-2)

    def __str__(self) -> str:
        return f"SNR {self.low:g}..{self.high:g}"

    def holds(self, step: Place) -> bool:
        if step.level is None:
            raise InputError("step: says not its level (a_t, s_t); a window of signal-to-noise ratios needs it")
        a, s = step.level
        return self.low * s**2 <= a**2 <= self.high * s**2  # without the quotient: s may be 0

    def check(self, schedule: Levels, timesteps: Sequence[int]) -> None:
        """Raise unless at least two of the visited timesteps fall in the window."""
        _need_two(self, sum(map(self.holds, places(schedule, timesteps))), timesteps)


CRITICAL = "-critical"
"""Behind a detector's name, where names must differ: it looks at the model's critical windows, found without labels."""


@dataclass(frozen=True)
class Critical:
    """The critical windows of a model, before the model is known (:mod:`intermode.detect.critical`)."""

    def __str__(self) -> str:
        return "critical"

    def holds(self, step: Place) -> bool:
        """Never known: raises InputError."""
        raise InputError(
            "window: critical ones are found for a model; give the detector to sample or score, or a pair of timesteps"
        )

    def check(self, schedule: Levels, timesteps: Sequence[int]) -> None:
        """Raise InputError: no step is known to fall in it."""
        _ = [self.holds(place) for place in places(schedule, timesteps)]


def asks_critical(detector: object) -> bool:
    """Whether a detector asks for the critical windows of a model, which it does not know yet."""
    return isinstance(getattr(detector, "window", None), Critical)


def as_window(value: Any) -> StepWindow:
    """A window as it is, the :class:`Window` of a pair (low, high) of timesteps, or ``critical``.

    Raises:
        InputError: neither of them.
    """
    if hasattr(value, "holds") and hasattr(value, "check"):
        return value
    if value == "critical":
        return Critical()
    try:
        low, high = map(operator.index, value)
    except (TypeError, ValueError):
        raise InputError(
            f"window: {value!r} is none; give a pair of timesteps (low, high), SNR(low, high), Fraction(begin, end) or "
            "critical"
        ) from None
    return Window(low, high)


def spread(window: StepWindow, schedule: Levels | None, count: int) -> tuple[int, ...]:
    """``count`` timesteps spread evenly over a window, both its ends among them, rising.

    Args:
        schedule: whose timesteps the window is a range of; a :class:`Window` is one of any.

    Raises:
        InputError: a window that does not hold as many of the schedule's timesteps, or reaches beyond them.
    """
    if isinstance(window, Window):
        low, high, held = window.low, window.high, window.high - window.low + 1
        if schedule is not None and high >= len(schedule):
            raise InputError(f"window: {window} is not inside 0..{len(schedule) - 1}, the timesteps")
    else:
        assert schedule is not None
        falling = range(len(schedule) - 1, -1, -1)
        inside = [place.t for place in places(schedule, falling) if window.holds(place)]
        low, high, held = min(inside, default=0), max(inside, default=0), len(inside)
    if held < count:
        raise InputError(f"count: {count} timesteps are asked of {window}, which holds {held}; take fewer")
    return tuple(int(t) for t in torch.linspace(low, high, count).round())


IMAGE_WINDOW = SNR(0.05, 0.25)
"""For images and latents whose values are about 1 in size: the paper's window for images, t = 700..850 of 1000 in the
cosine schedule, is 0.056..0.254 as a signal-to-noise ratio, where it is decided which objects an image has."""
