"""Find, explain and remove the hallucinations of diffusion models.

The public names, loaded when first used, so that ``import intermode`` costs nothing. The two functions that are
named as their modules stay there: ``intermode.training.train`` and ``intermode.sampling.generate``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from intermode.denoisers import Denoiser, MixtureDenoiser, NetworkDenoiser, TabulatedDenoiser
    from intermode.detect.hal import Hal, HalRenoise
    from intermode.detect.window import IMAGE_WINDOW, SNR, Fraction, Window
    from intermode.distances import frechet, neighbourhoods
    from intermode.errors import InputError
    from intermode.evaluation import detection
    from intermode.exact import off_support
    from intermode.integrations.watching import watch
    from intermode.models import load_model, save_model
    from intermode.networks import build
    from intermode.resample import generate_kept
    from intermode.samplers import DDIM, Ancestral, Step
    from intermode.sampling import Plan, score
    from intermode.schedules import Schedule, cosine, linear
    from intermode.targets.gaussian import GaussianMixture, line
    from intermode.targets.lattice import diamond, grid
    from intermode.thresholds import Threshold
    from intermode.training import TrainConfig, Trained

_HOME = {
    "models": ("load_model", "save_model"),
    "denoisers": ("Denoiser", "MixtureDenoiser", "NetworkDenoiser", "TabulatedDenoiser"),
    "detect.hal": ("Hal", "HalRenoise"),
    "detect.window": ("IMAGE_WINDOW", "SNR", "Fraction", "Window"),
    "distances": ("frechet", "neighbourhoods"),
    "errors": ("InputError",),
    "evaluation": ("detection",),
    "exact": ("off_support",),
    "sampling": ("Plan", "score"),
    "integrations.watching": ("watch",),
    "networks": ("build",),
    # not public: where diffusers looks for the network of a pipeline's folder
    "networks.unet": ("ModelMixin", "PatchUNet2DModel"),
    "resample": ("generate_kept",),
    "samplers": ("DDIM", "Ancestral", "Step"),
    "schedules": ("Schedule", "cosine", "linear"),
    "targets.gaussian": ("GaussianMixture", "line"),
    "targets.lattice": ("diamond", "grid"),
    "thresholds": ("Threshold",),
    "training": ("TrainConfig", "Trained"),
}

__all__ = [
    "DDIM",
    "IMAGE_WINDOW",
    "SNR",
    "Ancestral",
    "Denoiser",
    "Fraction",
    "GaussianMixture",
    "Hal",
    "HalRenoise",
    "InputError",
    "MixtureDenoiser",
    "NetworkDenoiser",
    "Plan",
    "Schedule",
    "Step",
    "TabulatedDenoiser",
    "Threshold",
    "TrainConfig",
    "Trained",
    "Window",
    "build",
    "cosine",
    "detection",
    "diamond",
    "frechet",
    "generate_kept",
    "grid",
    "line",
    "linear",
    "load_model",
    "neighbourhoods",
    "off_support",
    "save_model",
    "score",
    "watch",
]


def __getattr__(name: str) -> object:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
