"""All detectors by name, each with settings for low-dimensional samples and for images.

The settings are starting points, not tuned ones: for samples of a few numbers they suit the paper's schedule for
Gaussians (T = 1000, betas 0.001 to 0.2), under which little is left of the signal at t = 200; for images a schedule of
1000 timesteps that keeps its signal longer (cosine, or DDPM's linear one). For another T, timesteps are scaled to it.

A name means one score wherever it is asked for. Only ``hal``, the paper's, has two forms: along the trajectory while
samples are made (:class:`Hal`), and of finished samples, noised again (:class:`HalRenoise`, which can be asked for by
its own name too, then beside the other).

A new detector is a file in this package and a line here; one of somebody else's is ``module:Name``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, overload

from intermode.denoisers import Denoiser
from intermode.detect import (
    IMAGE_WINDOW,
    AtTimesteps,
    Detector,
    Features,
    SampleDetector,
    TrajectoryDetector,
    flat,
    watches,
)
from intermode.detect.aleatoric import Aleatoric
from intermode.detect.bayesdiff import BayesDiff
from intermode.detect.bias import Bias
from intermode.detect.boundary import Boundary
from intermode.detect.curvature import Curvature
from intermode.detect.diffpath import DiffPath
from intermode.detect.generative_uncertainty import GenerativeUncertainty
from intermode.detect.hal import Hal, HalRenoise
from intermode.detect.knn import KNN, Realism
from intermode.detect.lid import LID
from intermode.detect.lmi import LMI
from intermode.detect.oracle import Oracle
from intermode.detect.posterior_variance import PosteriorVariance
from intermode.detect.random import Random
from intermode.detect.residual import Residual
from intermode.detect.white import White
from intermode.detect.window import asks_critical
from intermode.errors import InputError
from intermode.samplers import Sampler
from intermode.targets import Target
from intermode.verbs import nearest

__all__ = ["DEFAULTS", "DETECTORS", "IMAGES_ALONE", "Detectors", "Setting", "Where", "make", "resolve"]

Detectors = Any
"""A detector, its name or ``module:Name``, or a sequence of such."""
Where = Literal["sample", "chain", "finished"]
"""What detectors are shown: a chain and then what it made (``sample``), a chain alone (``watch``), or finished samples
alone (``score``)."""

DEFAULTS: Mapping[Where, str] = {"sample": "hal", "chain": "hal", "finished": "lid"}
"""What is taken where no detector is asked for. While samples are made: the paper's, which costs nothing. Of finished
samples: the best mean rank of the leaderboard (``results/bench``), though not told apart from most others by so few
models, and it needs no training data."""


@dataclass(frozen=True)
class Setting:
    """What a detector is made for.

    Attributes:
        shape: of one sample.
        target: whose labels the oracle tells.
        features: extractor for the detectors that compare samples with each other.
        timesteps: T of the schedule.
        window, count: for the detectors that look at timesteps, instead of their own ones; see :class:`AtTimesteps`.
        model, sampler: whose ``critical`` windows they are, and of detectors that watch the chain; only for these.
    """

    shape: tuple[int, ...]
    target: Target | None = None
    features: Features = flat
    timesteps: int = 1000
    window: Any = None
    count: int | None = None
    model: Denoiser | None = None
    sampler: Sampler | None = None

    @property
    def image(self) -> bool:
        """Samples with rows and columns, rather than a few numbers."""
        return len(self.shape) > 1

    def pick(self, low: range | tuple[int, ...], image: range | tuple[int, ...]) -> tuple[int, ...]:
        """Timesteps of 1000 for low-dimensional samples or for images, scaled to T."""
        scaled = (t * self.timesteps // 1000 for t in (image if self.image else low))
        return tuple(dict.fromkeys(scaled))

    def at(self, low: range | tuple[int, ...], image: range | tuple[int, ...]) -> dict[str, Any]:
        """Where a detector looks: at those of :meth:`pick`, or in the window."""
        own = {"timesteps": self.pick(low, image)} if self.window is None else {}
        return {**own, "window": self.window, "count": self.count}


def _hal(setting: Setting) -> Hal:
    if setting.window is not None:
        return Hal(window=setting.window)
    return Hal(window=IMAGE_WINDOW) if setting.image else Hal(0, min(15, setting.timesteps - 1))


def _hal_renoise(setting: Setting, name: str = "hal-renoise") -> HalRenoise:
    low, high = 0, min(15, setting.timesteps - 1)
    if setting.image:
        low, high = 100 * setting.timesteps // 1000, max(150 * setting.timesteps // 1000, 1)
    return HalRenoise(low, high, setting.count, window=setting.window, name=name)


def _oracle(setting: Setting) -> Oracle:
    if setting.target is None:
        raise InputError("target: the oracle needs one")
    return Oracle(setting.target)


def _posterior_variance(setting: Setting, statistic: str) -> PosteriorVariance:
    # whole Jacobians up to four dimensions, as many products beyond
    probes = 8 if setting.image else min(setting.shape[0], 4)
    where = setting.at((3, 5, 7, 10), (50, 100))
    return PosteriorVariance(statistic, probes=probes, **where)  # type: ignore[arg-type] # one of its statistics


LID_TIMESTEPS = (1, 2, 3), (100, 200)
"""Of samples of a few numbers and of images."""

DETECTORS: Mapping[str, Callable[[Setting], Detector]] = {
    "hal": _hal,
    "hal-renoise": _hal_renoise,
    "bias": lambda s: Bias(**s.at(*LID_TIMESTEPS)),
    "residual": lambda s: Residual(**s.at((1, 2, 3), (25, 50, 100))),
    "lid": lambda s: LID(**s.at(*LID_TIMESTEPS)),
    "posterior-variance": lambda s: _posterior_variance(s, "trace"),
    "posterior-variance-largest": lambda s: _posterior_variance(s, "largest"),
    "aleatoric": lambda s: Aleatoric(**s.at(range(1, 11), range(20, 201, 20))),
    "curvature": lambda s: Curvature(**s.at((3, 5, 7, 10), (50, 100))),
    "boundary": lambda s: Boundary(**s.at((3, 5, 7, 10), (100, 200, 750, 800))),
    "diffpath": lambda s: DiffPath(statistics=1, **s.at(range(0, 200, 20), range(0, 1000, 100))),
    "diffpath-6d": lambda s: DiffPath(statistics=6, **s.at(range(0, 200, 20), range(0, 1000, 100))),
    "lmi": lambda s: LMI(**s.at(range(0, 201, 10), range(0, 1000, 50))),
    "bayesdiff": lambda s: BayesDiff(**s.at(range(0, 101, 10), range(0, 1000, 100))),
    "generative-uncertainty": lambda s: GenerativeUncertainty(
        features=s.features, **s.at(range(0, 201, 10), range(0, 1000, 50))
    ),
    "knn": lambda s: KNN(features=s.features),
    "realism": lambda s: Realism(features=s.features),
    "white": lambda s: White(),
    "random": lambda s: Random(),
    "oracle": _oracle,
}
IMAGES_ALONE = ("white",)
"""Those that score nothing but images."""


def make(name: str, setting: Setting, where: Where = "sample") -> Detector:
    """The detector of that name, or somebody else's: ``module:Name``, an object or a class that needs no arguments.

    Args:
        name: of :data:`DETECTORS`, or of an importable module (the working directory counts) and what is in it.
        setting: what it is made for.
        where: what it is shown; of finished samples ``hal`` is that of samples noised again.

    Raises:
        InputError: an unknown name, something that is no detector, an oracle without a target, or a detector of images
            for samples that are none.
    """
    if ":" in name:
        return _checked(_imported(name), name)
    if name == "hal" and where == "finished":
        return _hal_renoise(setting, "hal")
    if name not in DETECTORS:
        close = nearest(name, DETECTORS)
        hint = f"did you mean {close}? (" if close else "("
        raise InputError(f"detector: unknown {name!r}; {hint}choose from {', '.join(DETECTORS)}, or module:Name)")
    if name in IMAGES_ALONE and not setting.image:
        raise InputError(f"detector: {name} scores images alone, not samples of shape {setting.shape}")
    return DETECTORS[name](setting)


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)  # a script's own directory would be there, a command's is not
    try:
        found = import_module(module)
    except (ImportError, ValueError) as error:
        raise InputError(f"detector: {name}: cannot import {module} ({error})") from None
    finally:
        sys.path.remove(here)
    if not hasattr(found, attribute):
        close = nearest(attribute, vars(found))
        raise InputError(f"detector: {module} has no {attribute}" + (f"; did you mean {close}?" if close else ""))
    return getattr(found, attribute)


def _checked(found: Any, told: str) -> Detector:
    """An object that has what a detector needs; of a class, an instance."""
    if isinstance(found, type):
        try:
            found = found()
        except TypeError as error:
            raise InputError(f"detector: {told} cannot be made without arguments ({error}); give an instance") from None
    needed = ["name", "check", *(("start", "update", "score") if hasattr(found, "update") else ("__call__",))]
    if missing := [attribute for attribute in needed if not hasattr(found, attribute)]:
        raise InputError(f"detector: {told} has no {', '.join(missing)}; intermode.detect says what a detector needs")
    return found


@overload
def resolve(detectors: Detectors, setting: Setting, where: Literal["sample"] = "sample") -> list[Detector]: ...


@overload
def resolve(detectors: Detectors, setting: Setting, where: Literal["chain"]) -> list[TrajectoryDetector]: ...


@overload
def resolve(detectors: Detectors, setting: Setting, where: Literal["finished"]) -> list[SampleDetector]: ...


def resolve(detectors: Detectors, setting: Setting, where: Where = "sample") -> Any:
    """The detectors that were asked for, ready to be used there.

    Args:
        detectors: a detector, its name or ``module:Name``, or a sequence of such.
        setting: what named ones are made for.
        where: what they will be shown.

    Raises:
        InputError: an unknown name, two detectors of one name, a window or count that none of the named ones takes, or
            one that cannot do what is asked: it says what can.
    """
    asked: Sequence[Any] = detectors if isinstance(detectors, list | tuple) else [detectors]
    named = [make(one, setting, where) for one in asked if isinstance(one, str)]
    for option in ("window", "count"):
        takes = [d for d in named if isinstance(d, AtTimesteps) or (option == "window" and isinstance(d, Hal))]
        if getattr(setting, option) is not None and not takes:
            names = ", ".join(d.name for d in named) or "detectors that are given as objects"
            raise InputError(f"{option}: is of no use to {names}; only detectors that look at timesteps take one")
    rest = iter(named)
    found = [next(rest) if isinstance(one, str) else _checked(one, type(one).__name__) for one in asked]
    for detector in found:
        if where == "chain" and not watches(detector):
            raise InputError(f"{detector.name}: scores finished images; use score")
        if where == "finished" and watches(detector):
            instead = "; HalRenoise scores finished ones" if isinstance(detector, Hal) else ""
            raise InputError(f"{detector.name}: watches samples while they are made; use sample or watch{instead}")
    if any(map(asks_critical, found)):
        from intermode.detect.critical import in_critical_windows  # which draws samples

        found = [in_critical_windows(detector, setting.model, setting.sampler) for detector in found]
    listed = [detector.name for detector in found]
    if len(set(listed)) < len(listed):
        raise InputError(f"detectors: the names {', '.join(listed)} repeat; give each its own")
    return found
