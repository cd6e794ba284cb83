"""Find, explain and remove the hallucinations of diffusion models.

The public names, loaded when first used, so that ``import intermode`` costs nothing. The functions are the words of the
command line; the classes are what they take and return. Whatever else there is, is for experts and is imported from
its module.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from intermode.animating import animate
    from intermode.critical import CriticalWindows, critical_windows
    from intermode.detect.hal import Hal, HalRenoise
    from intermode.detect.window import SNR, Fraction, Window
    from intermode.early_stop import EarlyStop, EarlyStopped
    from intermode.errors import InputError
    from intermode.exact import off_support
    from intermode.explaining import explain
    from intermode.explorer import explore
    from intermode.filtering import filter
    from intermode.integrations.watching import watch
    from intermode.models import load
    from intermode.repairs import Repair, Repaired, repair
    from intermode.reports import report
    from intermode.restart import Restart
    from intermode.samplers import DDIM, Ancestral, Sampler
    from intermode.sampling import Samples, sample
    from intermode.schedules import cosine, linear
    from intermode.scoring import score
    from intermode.study import bench, reproduce
    from intermode.targets.gaussian import GaussianMixture, line
    from intermode.targets.lattice import diamond, grid
    from intermode.thresholds import Threshold
    from intermode.training import train

_HOME = {
    "critical": ("CriticalWindows", "critical_windows"),
    "models": ("load",),
    "training": ("train",),
    "sampling": ("Samples", "sample"),
    "scoring": ("score",),
    "filtering": ("filter",),
    "early_stop": ("EarlyStop", "EarlyStopped"),
    "exact": ("off_support",),
    "integrations.watching": ("watch",),
    "study": ("bench", "reproduce"),
    "repairs": ("Repair", "Repaired", "repair"),
    "reports": ("report",),
    "explorer": ("explore",),
    "explaining": ("explain",),
    "animating": ("animate",),
    "samplers": ("DDIM", "Ancestral", "Sampler"),
    "restart": ("Restart",),
    "schedules": ("cosine", "linear"),
    "targets.gaussian": ("GaussianMixture", "line"),
    "targets.lattice": ("diamond", "grid"),
    "detect.hal": ("Hal", "HalRenoise"),
    "detect.window": ("SNR", "Fraction", "Window"),
    "thresholds": ("Threshold",),
    "errors": ("InputError",),
}
_OF_PIPELINES = {"networks.unet": ("ModelMixin", "PatchUNet2DModel"), "networks.local": ("LocalConvModel",)}
"""Not public: diffusers looks here for the network of a pipeline's folder."""

__all__ = [
    "DDIM",
    "SNR",
    "Ancestral",
    "CriticalWindows",
    "EarlyStop",
    "EarlyStopped",
    "Fraction",
    "GaussianMixture",
    "Hal",
    "HalRenoise",
    "InputError",
    "Repair",
    "Repaired",
    "Restart",
    "Sampler",
    "Samples",
    "Threshold",
    "Window",
    "animate",
    "bench",
    "cosine",
    "critical_windows",
    "diamond",
    "explain",
    "explore",
    "filter",
    "grid",
    "line",
    "linear",
    "load",
    "off_support",
    "repair",
    "report",
    "reproduce",
    "sample",
    "score",
    "train",
    "watch",
]


def __getattr__(name: str) -> object:
    for module, names in {**_HOME, **_OF_PIPELINES}.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
