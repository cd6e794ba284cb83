"""A model trained once per run folder: loaded where it is finished, resumed where it was interrupted."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from intermode.bundle import load_model, provenance_of, save_model
from intermode.denoiser import NetworkDenoiser
from intermode.networks import build
from intermode.progress import Progress
from intermode.run import provenance
from intermode.schedule import Schedule
from intermode.train import TrainConfig, Trained, train

__all__ = ["fit"]


def fit(
    folder: Path,
    network: dict[str, Any],
    schedule: Schedule,
    data: Tensor,
    config: TrainConfig,
    *,
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Trained:
    """The model in ``folder``, trained now unless it is there.

    Args:
        network: description for :func:`intermode.networks.build`.
        Others as in :func:`intermode.train.train`.
    """
    if (folder / "config.json").exists():
        record = provenance_of(folder)
        return Trained(load_model(folder), np.array(record["losses"]), record["train_s"])
    trained = train(
        build(network, config.seed), schedule, data, config, folder=folder, device=device, progress=progress
    )
    denoiser: NetworkDenoiser = trained.denoiser
    denoiser.network.to("cpu")
    record = {
        **provenance(device, threads),
        "training": asdict(config),
        "training_samples": len(data),
        "train_s": trained.seconds,
        "losses": [round(float(loss), 6) for loss in trained.losses],
    }
    save_model(folder, denoiser, record)
    (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    return trained
