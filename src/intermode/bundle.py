"""A model as a folder: ``model.safetensors`` and ``config.json``.

The config holds the description of the network, the schedule, what the network predicts and the provenance of
the weights; nothing in the folder is code and nothing is unpickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from intermode.denoiser import NetworkDenoiser
from intermode.errors import InputError
from intermode.files import load_tensors, read_json, save_tensors, write_json
from intermode.networks import build
from intermode.schedule import Schedule, from_config

__all__ = ["load_model", "provenance_of", "save_model", "shipped"]

FORMAT = "intermode-model-1"
FIELDS = ("network", "schedule", "prediction", "provenance")
SHIPPED = Path(__file__).parent / "pretrained"


def save_model(folder: Path, denoiser: NetworkDenoiser, provenance: dict[str, Any]) -> None:
    """Write a model folder; the network must carry its description as ``description``.

    Raises:
        InputError: a schedule made by hand, which could not be built again.
    """
    if not denoiser.schedule.config:
        raise InputError("schedule: was made by hand; use linear, cosine, from_diffusers or from_config to save it")
    # weights first: a folder with a config is a complete one
    save_tensors(folder / "model.safetensors", denoiser.network.state_dict())
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


def shipped(name: str, schedule: Schedule, target: str) -> Path:
    """Folder of a model that comes with the package.

    Raises:
        InputError: no model of that name is shipped, or it was trained with another schedule or on other data.
    """
    folder = SHIPPED / name
    if not (folder / "config.json").exists():
        known = sorted(p.parent.name for p in SHIPPED.glob("*/config.json") if read_json(p)["format"] == FORMAT)
        raise InputError(f"pretrained: no model {name!r} is shipped; choose from {', '.join(known) or 'none'}")
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


def load_model(folder: Path) -> NetworkDenoiser:
    """The denoiser in a model folder.

    Raises:
        InputError: a folder that is missing or no model, weights that are truncated, a pickle, or do not fit.
    """
    config = _config(folder)
    network = build(config["network"])
    tensors, _ = load_tensors(folder / "model.safetensors")
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise InputError(f"{folder}: weights do not fit the network in config.json ({first})") from None
    network.eval().requires_grad_(False)
    return NetworkDenoiser(network, from_config(config["schedule"]), config["prediction"])
