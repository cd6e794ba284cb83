"""All detectors by name, each with settings for low-dimensional samples and for images.

The settings are starting points, not tuned ones: for samples of a few numbers they suit the paper's schedule for
Gaussians (T = 1000, betas 0.001 to 0.2), under which little is left of the signal at t = 200; for images a schedule of
1000 timesteps that keeps its signal longer (cosine, or DDPM's linear one). For another T, timesteps are scaled to it.

A new detector is a file in this package and a line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from intermode.detect import IMAGE_WINDOW, Detector, Features, flat
from intermode.detect.aleatoric import Aleatoric
from intermode.detect.bayesdiff import BayesDiff
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
from intermode.errors import InputError
from intermode.targets import Target

__all__ = ["DEFAULT", "DETECTORS", "Setting", "make"]


@dataclass(frozen=True)
class Setting:
    """What a detector is made for.

    Attributes:
        shape: of one sample.
        target: whose labels the oracle tells.
        features: extractor for the detectors that compare samples with each other.
        timesteps: T of the schedule.
    """

    shape: tuple[int, ...]
    target: Target | None = None
    features: Features = flat
    timesteps: int = 1000

    @property
    def image(self) -> bool:
        """Samples with rows and columns, rather than a few numbers."""
        return len(self.shape) > 1

    def pick(self, low: range | tuple[int, ...], image: range | tuple[int, ...]) -> tuple[int, ...]:
        """Timesteps of 1000 for low-dimensional samples or for images, scaled to T."""
        scaled = (t * self.timesteps // 1000 for t in (image if self.image else low))
        return tuple(dict.fromkeys(scaled))


def _hal(setting: Setting) -> Hal:
    return Hal(window=IMAGE_WINDOW) if setting.image else Hal(0, min(15, setting.timesteps - 1))


def _hal_renoise(setting: Setting) -> HalRenoise:
    low, high = 0, min(15, setting.timesteps - 1)
    if setting.image:
        low, high = 100 * setting.timesteps // 1000, max(150 * setting.timesteps // 1000, 1)
    return HalRenoise(low, high, min(10, high - low + 1))


def _oracle(setting: Setting) -> Oracle:
    if setting.target is None:
        raise InputError("target: the oracle needs one")
    return Oracle(setting.target)


def _posterior_variance(setting: Setting, statistic: str) -> PosteriorVariance:
    # whole Jacobians up to four dimensions, as many products beyond
    probes = 8 if setting.image else min(setting.shape[0], 4)
    return PosteriorVariance(statistic, setting.pick((3, 5, 7, 10), (50, 100)), probes)  # type: ignore[arg-type] # one of its statistics


DETECTORS: Mapping[str, Callable[[Setting], Detector]] = {
    "hal": _hal,
    "hal-renoise": _hal_renoise,
    "residual": lambda s: Residual(s.pick((1, 2, 3), (25, 50, 100))),
    "lid": lambda s: LID(s.pick((1, 2, 3), (100, 200))),
    "posterior-variance": lambda s: _posterior_variance(s, "trace"),
    "posterior-variance-largest": lambda s: _posterior_variance(s, "largest"),
    "aleatoric": lambda s: Aleatoric(s.pick(range(1, 11), range(20, 201, 20))),
    "curvature": lambda s: Curvature(s.pick((3, 5, 7, 10), (50, 100))),
    "diffpath": lambda s: DiffPath(s.pick(range(0, 200, 20), range(0, 1000, 100)), 1),
    "diffpath-6d": lambda s: DiffPath(s.pick(range(0, 200, 20), range(0, 1000, 100)), 6),
    "lmi": lambda s: LMI(s.pick(range(0, 201, 10), range(0, 1000, 50))),
    "bayesdiff": lambda s: BayesDiff(s.pick(range(0, 101, 10), range(0, 1000, 100))),
    "generative-uncertainty": lambda s: GenerativeUncertainty(
        s.pick(range(0, 201, 10), range(0, 1000, 50)), features=s.features
    ),
    "knn": lambda s: KNN(features=s.features),
    "realism": lambda s: Realism(features=s.features),
    "random": lambda s: Random(),
    "oracle": _oracle,
}


DEFAULT = "lid"
"""What is taken where no detector is asked for: the best mean rank of the leaderboard (``results/bench``), though not
told apart from most others by so few models, and it needs no training data."""


def make(name: str, setting: Setting) -> Detector:
    """The detector of that name.

    Raises:
        InputError: an unknown name, or an oracle without a target.
    """
    if name not in DETECTORS:
        raise InputError(f"detector: unknown {name!r}; choose from {', '.join(DETECTORS)}")
    return DETECTORS[name](setting)
