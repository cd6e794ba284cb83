"""A model as a folder: the weights as safetensors, and ``config.json``.

The config holds the description of the network, the schedule, what the network predicts and the provenance of
the weights; nothing in the folder is code and nothing is unpickled. A network of images lies in a folder that is
also a `diffusers` pipeline: ``DDPMPipeline.from_pretrained`` opens it. The other way round, any `diffusers` pipeline
of a U-Net without text (``DDPMPipeline``, ``DDIMPipeline``) loads as a denoiser.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import nn

from intermode.denoisers import Denoiser, NetworkDenoiser, Prediction
from intermode.errors import InputError
from intermode.files import load_tensors, read_json, save_tensors, write_json
from intermode.networks import build
from intermode.schedules import Schedule, cosine, from_config, from_diffusers
from intermode.verbs import nearest, strict

__all__ = [
    "as_denoiser",
    "check_saving",
    "load",
    "load_model",
    "provenance_of",
    "save_model",
    "shipped",
    "shipped_names",
    "weights_digest",
]

FORMAT = "intermode-model-1"
FIELDS = ("network", "schedule", "prediction", "provenance")
SHIPPED = Path(__file__).parent / "pretrained"
PREDICTION_TYPES: dict[Prediction, str] = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
"""What `diffusers` calls them."""
PIPELINE_INDEX = "model_index.json"
PIPELINE_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def save_model(folder: Path, denoiser: NetworkDenoiser, provenance: dict[str, Any], *, half: bool = False) -> None:
    """Write a model folder; the network must carry its description as ``description``.

    Args:
        folder: made if need be.
        denoiser: the model.
        provenance: where the weights come from.
        half: write them in half the size, float16, where a relative error of 5e-4 in each weight is allowed. They are
            read as float32 again.

    Raises:
        InputError: see :func:`check_saving`.
    """
    check_saving(denoiser.network, denoiser.schedule, denoiser.prediction)
    images = len(denoiser.shape) == 3
    if images:
        _write_pipeline(folder, denoiser)
    # the config last: a folder that has one is complete
    tensors = denoiser.network.state_dict()
    if half:
        tensors = {name: v.half() if v.is_floating_point() else v for name, v in tensors.items()}
    save_tensors(folder / (PIPELINE_WEIGHTS if images else "model.safetensors"), tensors, {"format": "pt"})
    write_json(
        folder / "config.json",
        {
            "format": FORMAT,
            "network": denoiser.network.description,
            "schedule": denoiser.schedule.config,
            "prediction": denoiser.prediction,
            "provenance": provenance,
        },
    )


def check_saving(network: nn.Module, schedule: Schedule, prediction: Prediction) -> None:
    """Raise InputError for a model that could not be opened again, before it is trained.

    That is one of a network that carries no ``description``, of a schedule made by hand, or of images with a prediction
    that `diffusers` has no name for.
    """
    if not schedule.config:
        raise InputError("schedule: was made by hand; use linear, cosine, from_diffusers or from_config to save it")
    if not hasattr(network, "description"):
        raise InputError(f"network: a {type(network).__name__} has no description to build it from again; see build")
    if len(NetworkDenoiser(network, schedule, prediction).shape) == 3 and prediction not in PREDICTION_TYPES:
        raise InputError(f"prediction: a DDPMPipeline knows {', '.join(PREDICTION_TYPES)}, not {prediction}")


def _write_pipeline(folder: Path, denoiser: NetworkDenoiser) -> None:
    """Everything of a ``DDPMPipeline`` but the weights."""
    import diffusers
    from diffusers.configuration_utils import ConfigMixin

    schedule = denoiser.schedule
    betas: dict[str, Any]
    if cosine(len(schedule)).config == schedule.config:
        betas = {"beta_schedule": "squaredcos_cap_v2"}
    else:
        alpha_bar = np.concatenate([[1.0], schedule.alpha_bar])
        betas = {"trained_betas": (1 - alpha_bar[1:] / alpha_bar[:-1]).tolist()}
    scheduler = diffusers.DDPMScheduler(
        num_train_timesteps=len(schedule),
        prediction_type=PREDICTION_TYPES[denoiser.prediction],
        clip_sample=False,  # x0_hat as the network says
        timestep_spacing="linspace",  # both ends of the chain, as our samplers
        **betas,
    )
    network = denoiser.network
    for name, part in (("scheduler", scheduler), ("unet", network)):
        cast(ConfigMixin, part).save_config(folder / name)
    index = {
        "_class_name": "DDPMPipeline",
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", "DDPMScheduler"],
        "unet": [type(network).__module__, type(network).__name__],
    }
    write_json(folder / PIPELINE_INDEX, index)


def shipped_names() -> list[str]:
    """The models that come with the package."""
    return sorted(p.parent.name for p in SHIPPED.glob("*/config.json") if read_json(p)["format"] == FORMAT)


def shipped(name: str, schedule: Schedule, target: str) -> Path:
    """Folder of a model that comes with the package.

    Raises:
        InputError: no model of that name is shipped, or it was trained with another schedule or on other data.
    """
    folder = SHIPPED / name
    if name not in shipped_names():
        raise InputError(f"pretrained: no model {name!r} is shipped; choose from {', '.join(shipped_names())}")
    config = _config(folder)
    for there, here in ((config["schedule"], schedule.config), (config["provenance"]["target"], target)):
        if there != here:
            raise InputError(f"pretrained: the model {name} was trained with {there}, not {here}; train from scratch")
    return folder


def _config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such model folder")
    config = read_json(folder / "config.json")
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise InputError(f"{folder / 'config.json'}: is not the config of an intermode model")
    if missing := [key for key in FIELDS if key not in config]:
        raise InputError(f"{folder / 'config.json'}: lacks {', '.join(missing)}")
    return config


def provenance_of(folder: Path) -> dict[str, Any]:
    """Where the weights of a model folder come from."""
    return dict(_config(folder)["provenance"])


def _weights_of(folder: Path) -> Path:
    return folder / (PIPELINE_WEIGHTS if (folder / PIPELINE_INDEX).exists() else "model.safetensors")


def weights_digest(folder: Path) -> str:
    """The beginning of the SHA-256 of a model folder's weights, in one file or many: tells one model from another.

    Raises:
        InputError: a folder without weights.
    """
    weights = sorted(path for path in folder.rglob("*.safetensors") if not path.name.startswith("checkpoint"))
    if not weights:
        raise InputError(f"{folder}: holds no weights (*.safetensors)")
    digest = hashlib.sha256()
    for path in weights:
        with path.open("rb") as file:
            while block := file.read(2**22):
                digest.update(block)
    return digest.hexdigest()[:16]


@strict
def load(name_or_folder: str | Path) -> NetworkDenoiser:
    """A model: one that is shipped, by its name, or the one in a folder.

    Args:
        name_or_folder: ``"gaussian-1d"``, ``"grid"``, ``"diamond"``, ``"shapes"``, ...; or a folder written by
            :func:`intermode.train`, or one of a `diffusers` pipeline of a U-Net. A folder that is named as a shipped
            model is ``./NAME``.

    Raises:
        InputError: neither of them, or weights that are truncated, a pickle, or do not fit.
    """
    names = shipped_names()
    if isinstance(name_or_folder, str) and name_or_folder in names:
        return load_model(SHIPPED / name_or_folder)
    folder = Path(name_or_folder)
    if not folder.exists() and len(folder.parts) == 1:
        close = nearest(folder.name, names)
        hint = f"did you mean {close}? " if close else ""
        raise InputError(f"model: {folder}: no such model folder, nor a shipped model; {hint}({', '.join(names)})")
    return load_model(folder)


def as_denoiser(model: Denoiser | str | Path) -> Denoiser:
    """A denoiser as it is, or the model that :func:`load` finds.

    Raises:
        InputError: something else, or what ``load`` refuses.
    """
    if isinstance(model, Denoiser):
        return model
    if isinstance(model, str | Path):
        return load(model)
    names = ", ".join(shipped_names())
    raise InputError(f"model: {type(model).__name__} is none; give a Denoiser, a folder, or one of {names}")


def load_model(folder: Path) -> NetworkDenoiser:
    """The denoiser in a model folder: ours, or a `diffusers` pipeline of a U-Net.

    Raises:
        InputError: a folder that is missing or no model, weights that are truncated, a pickle, or do not fit.
    """
    if (folder / PIPELINE_INDEX).exists() and not (folder / "config.json").exists():
        return _load_pipeline(folder)
    config = _config(folder)
    network = build(config["network"])
    tensors, _ = load_tensors(_weights_of(folder))
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise InputError(f"{folder}: weights do not fit the network in config.json ({first})") from None
    network.eval().requires_grad_(False)
    return NetworkDenoiser(network, from_config(config["schedule"]), config["prediction"])


def _load_pipeline(folder: Path) -> NetworkDenoiser:
    """The U-Net and the schedule of somebody else's pipeline folder."""
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # two files are no wait worth showing
    try:
        pipe = DiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    except (OSError, ValueError, ImportError, AttributeError, RuntimeError) as error:
        raise InputError(f"{folder}: diffusers cannot open it ({str(error).strip().splitlines()[0]})") from None
    finally:
        if shown:
            logging.enable_progress_bar()
    parts = set(pipe.components)
    if parts != {"unet", "scheduler"}:
        raise InputError(
            f"{folder}: is a {type(pipe).__name__} of {', '.join(sorted(parts))}; only a U-Net with its scheduler can "
            "score finished images"
        )
    named = {word: prediction for prediction, word in PREDICTION_TYPES.items()}
    word = pipe.scheduler.config.get("prediction_type", "epsilon")
    if word not in named:
        raise InputError(f"{folder}: prediction_type {word!r} is not known; choose from {', '.join(named)}")
    pipe.unet.eval().requires_grad_(False)
    return NetworkDenoiser(pipe.unet, from_diffusers(pipe.scheduler), named[word])
