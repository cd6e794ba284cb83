"""The model of a Gaussian experiment: its settings, trained once per run folder.

A finished model is loaded, an interrupted training resumed, a damaged file made again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from intermode.denoisers import NetworkDenoiser, Prediction
from intermode.errors import InputError
from intermode.models import load_model, provenance_of, save_model, shipped
from intermode.networks import build
from intermode.progress import Progress, Silent
from intermode.run import provenance
from intermode.samplers import Ancestral
from intermode.schedules import Schedule, linear
from intermode.training import TrainConfig, Trained
from intermode.training import fit as train

__all__ = ["ModelConfig", "Watch", "fit", "shipped_model"]

Watch = Callable[[int, NetworkDenoiser], None]
"""Called during training with the steps done and the denoiser so far."""


@dataclass(frozen=True)
class ModelConfig:
    """Settings of a model.

    Attributes:
        train_size: training samples.
        timesteps: T of the schedule.
        beta_start: first beta of the linear schedule.
        beta_end: last beta.
        width: of the network's hidden layers.
        tied_blocks: use one residual block three times, as the released code does.
        steps: optimiser steps.
        batch: samples in a step.
        learning_rate: of Adam.
        decay: of the learning rate: cosine, or none as in the paper.
        variance: of the ancestral sampler: large (beta_t, as in the paper) or small (the posterior variance).
        seed: of data, network, training and samples.
        threads: torch's on a CPU; small batches are faster with one.
        device: cpu or cuda.
    """

    train_size: int = 50_000
    timesteps: int = 1000
    beta_start: float = 0.001
    beta_end: float = 0.2
    width: int = 128
    tied_blocks: bool = False
    steps: int = 4000
    batch: int = 1000
    learning_rate: float = 1e-3
    decay: Literal["cosine", "none"] = "cosine"
    variance: Literal["large", "small"] = "large"
    seed: int = 0
    threads: int = 1
    device: str = "cpu"

    @property
    def schedule(self) -> Schedule:
        return linear(self.timesteps, self.beta_start, self.beta_end)

    @property
    def sampler(self) -> Ancestral:
        return Ancestral(self.variance)

    @property
    def training(self) -> TrainConfig:
        return TrainConfig(
            steps=self.steps,
            batch=self.batch,
            learning_rate=self.learning_rate,
            decay=self.decay,
            seed=self.seed,
        )

    def check(self) -> None:
        """Raise InputError for values that cannot be used, before anything is written."""
        _ = self.sampler, self.training
        self.schedule.check_float32()
        if self.train_size < 1:
            raise InputError(f"train_size: {self.train_size} must be at least 1")
        if not 1 <= self.threads <= 1024:
            raise InputError(f"threads: {self.threads} is outside 1..1024")
        build({"kind": "mlp", "dimensions": 1, "width": self.width})
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise InputError(f"device: {self.device} is not available; choose cpu")

    def fit_to(
        self,
        data: Tensor,
        folder: Path,
        target: str,
        *,
        progress: Progress | None = None,
        watch: Watch | None = None,
        watch_every: int = 0,
    ) -> Trained:
        """Train on data (n, d), or load the model from its folder; ``target`` says what the data is."""
        network = {
            "kind": "mlp",
            "dimensions": data.shape[1],
            "width": self.width,
            "tied_blocks": self.tied_blocks,
        }
        return fit(
            folder,
            network,
            self.schedule,
            data,
            self.training,
            target=target,
            device=self.device,
            threads=self.threads,
            progress=progress,
            watch=watch,
            watch_every=watch_every,
        )


def fit(
    folder: Path,
    network: dict[str, Any],
    schedule: Schedule,
    data: Tensor,
    config: TrainConfig,
    *,
    target: str,
    prediction: Prediction = "eps",
    labels: Tensor | None = None,
    start: NetworkDenoiser | None = None,
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
    watch_every: int = 0,
) -> Trained:
    """The model in ``folder``, trained now unless it is there.

    Args:
        network: description for :func:`intermode.networks.build`.
        target: what the data is, for the record.
        labels: classes of the samples, for a network that is told them.
        start: a model whose weights training begins with, instead of fresh ones.
        Others as in :func:`intermode.training.train`.
    """
    if (folder / "config.json").exists():
        try:
            return _load(folder, device)
        except InputError as error:
            (progress or Silent()).notice(f"{error}; training it again")
            (folder / "config.json").unlink()
    fresh = build(network, config.seed)
    if start:
        fresh.load_state_dict(start.network.state_dict())
    trained = train(
        fresh,
        schedule,
        data,
        config,
        prediction=prediction,
        labels=labels,
        folder=folder,
        device=device,
        progress=progress,
        watch=watch,
        watch_every=watch_every,
    )
    record = {
        **provenance(device, threads),
        "target": target,
        "training": asdict(config),
        **trained.record(len(data)),
    }
    save_model(folder, trained, record)
    (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    return trained


def _load(folder: Path, device: str) -> Trained:
    record, denoiser = provenance_of(folder), load_model(folder)
    denoiser.network.to(device)
    return Trained(denoiser, np.array(record["losses"]), record["train_s"])


def shipped_model(name: str, schedule: Schedule, target: str, device: str = "cpu") -> Trained:
    """A model that comes with the package; raises InputError as :func:`intermode.models.shipped`."""
    return _load(shipped(name, schedule, target), device)
