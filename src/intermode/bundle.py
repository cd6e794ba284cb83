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
from intermode.schedule import from_config

__all__ = ["load_model", "provenance_of", "save_model"]

FORMAT = "intermode-model-1"


def save_model(folder: Path, denoiser: NetworkDenoiser, provenance: dict[str, Any]) -> None:
    """Write a model folder; the network must carry its description as ``config``."""
    # weights first: a folder with a config is a complete one
    save_tensors(folder / "model.safetensors", denoiser.network.state_dict())
    write_json(
        folder / "config.json",
        {
            "format": FORMAT,
            "network": denoiser.network.config,
            "schedule": denoiser.schedule.config,
            "prediction": denoiser.prediction,
            "provenance": provenance,
        },
    )


def _config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such model folder")
    config = read_json(folder / "config.json")
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise InputError(f"{folder / 'config.json'}: is not the config of an intermode model")
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
