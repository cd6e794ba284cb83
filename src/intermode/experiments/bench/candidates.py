"""The settings of each detector that the benchmark chooses from, on samples that are not those it is judged on.

A detector of the registry that is not listed here is run as the registry makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from intermode.detect import Detector
from intermode.detect.aleatoric import Aleatoric
from intermode.detect.bayesdiff import BayesDiff
from intermode.detect.curvature import Curvature
from intermode.detect.generative_uncertainty import GenerativeUncertainty
from intermode.detect.hal import HalRenoise
from intermode.detect.knn import KNN, Realism
from intermode.detect.lid import LID
from intermode.detect.lmi import LMI
from intermode.detect.posterior_variance import PosteriorVariance
from intermode.detect.registry import Setting, make
from intermode.detect.residual import Residual

__all__ = ["candidates"]

LOW: tuple[tuple[int, ...], ...] = ((0, 1), (1, 2, 3), (3, 5, 7, 10), (10, 15, 20))
IMAGE: tuple[tuple[int, ...], ...] = ((10, 20), (25, 50, 100), (100, 200), (200, 300, 400), (400, 500, 600))


def _each(make_one: Callable[[Sequence[int]], Detector]) -> Callable[[Setting], list[Detector]]:
    return lambda setting: [make_one(timesteps) for timesteps in (IMAGE if setting.image else LOW)]


def _renoise(setting: Setting) -> list[Detector]:
    windows = ((50, 150), (100, 150), (200, 400), (400, 600)) if setting.image else ((0, 9), (0, 15), (5, 20))
    return [HalRenoise(low, high, 10) for low, high in windows]


def _posterior(statistic: str) -> Callable[[Setting], list[Detector]]:
    def listed(setting: Setting) -> list[Detector]:
        # whole Jacobians in a few dimensions, as many products beyond
        probes = 4 if setting.image else setting.shape[0]
        chosen = ((25, 50), (100, 200), (300, 400)) if setting.image else LOW
        return [PosteriorVariance(statistic, timesteps, probes) for timesteps in chosen]  # type: ignore[arg-type] # one of its statistics

    return listed


def _chains(setting: Setting) -> dict[str, Detector]:
    """Detectors that follow the sample through a chain, which would take most of the benchmark's time on images."""
    return {
        "lmi": LMI(range(0, 1000, 100)),
        "bayesdiff": BayesDiff(range(0, 1000, 125), probes=5),
        "generative-uncertainty": GenerativeUncertainty(range(0, 1000, 100), features=setting.features),
    }


CANDIDATES: dict[str, Callable[[Setting], list[Detector]]] = {
    "hal-renoise": _renoise,
    "residual": _each(Residual),
    "lid": _each(lambda timesteps: LID(timesteps, 32)),
    "posterior-variance": _posterior("trace"),
    "posterior-variance-largest": _posterior("largest"),
    "aleatoric": _each(lambda timesteps: Aleatoric(timesteps, 5)),
    "curvature": _each(Curvature),
    "knn": lambda setting: [KNN(k, setting.features) for k in (1, 5)],
    "realism": lambda setting: [Realism(k, setting.features) for k in (3, 5)],
}


def candidates(name: str, setting: Setting) -> list[Detector]:
    """At least one instance of the detector of that name.

    Raises:
        InputError: a name that the registry does not know.
    """
    found = make(name, setting)
    if setting.image and (shorter := _chains(setting).get(name)):
        return [shorter]
    return CANDIDATES[name](setting) if name in CANDIDATES else [found]
