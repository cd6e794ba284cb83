r"""The model of an image experiment: a U-Net with a cosine schedule, sampled in fewer, respaced steps (paper: A.2).

The network predicts :math:`v = a_t \varepsilon - s_t x_0`, not :math:`\varepsilon`: a cosine schedule ends at
:math:`a_T = 5 \cdot 10^{-5}`, and an error of the predicted noise would enter :math:`\hat x_0` 20,000 times larger.
The usual cure, clipping :math:`\hat x_0`, would hide from Hal what it looks at. From v, :math:`\hat x_0 = a_t x_t -
s_t v` is as good at every timestep.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from intermode.denoisers import NetworkDenoiser
from intermode.errors import InputError
from intermode.experiments.model import fit, shipped_model
from intermode.networks import build
from intermode.progress import Progress
from intermode.samplers import Ancestral
from intermode.schedules import Schedule, cosine
from intermode.training import TrainConfig, Trained

__all__ = ["ImageModelConfig"]


@dataclass(frozen=True)
class ImageModelConfig:
    """Settings of a model of images.

    Attributes:
        train_size: training images.
        timesteps: T of the cosine schedule.
        patch: side of the patches that the U-Net folds into channels.
        channels: of the U-Net, from the finest resolution on.
        layers: residual blocks at each resolution.
        attention: the resolutions with self-attention, counted from the finest, 0.
        steps: optimiser steps.
        batch: images in a step.
        learning_rate: of Adam, falling to zero along a cosine.
        ema: decay of the average of the weights.
        sampling_steps: respaced steps of the ancestral sampler.
        variance: of that sampler: large or small (the posterior variance).
        chunk: images sampled together.
        precision: no (float32) or bf16, in training and sampling.
        compile: compile the network, worth its minute on a GPU.
        seed: of data, network, training and samples.
        threads: torch's on a CPU.
        device: cpu or cuda.
    """

    train_size: int = 5000
    timesteps: int = 1000
    patch: int = 4
    channels: tuple[int, ...] = (64, 64, 64)
    layers: int = 1
    attention: tuple[int, ...] = (2,)
    steps: int = 12_000
    batch: int = 32
    learning_rate: float = 1e-3
    ema: float = 0.999
    sampling_steps: int = 250
    variance: Literal["large", "small"] = "small"
    chunk: int = 32
    precision: Literal["no", "bf16"] = "no"
    compile: bool = False
    seed: int = 0
    threads: int = 2
    device: str = "cpu"

    @property
    def schedule(self) -> Schedule:
        return cosine(self.timesteps)

    @property
    def sampler(self) -> Ancestral:
        return Ancestral(self.variance, self.sampling_steps)

    @property
    def training(self) -> TrainConfig:
        return TrainConfig(
            steps=self.steps,
            batch=self.batch,
            learning_rate=self.learning_rate,
            ema=self.ema,
            seed=self.seed,
            precision=self.precision,
            compile=self.compile,
        )

    def network(self, shape: tuple[int, ...], classes: int = 0) -> dict[str, Any]:
        """Description of the network for images (C, size, size) of so many classes; 0 if it is not told them."""
        return {
            "kind": "unet",
            "sample_size": shape[-1],
            "in_channels": shape[0],
            "patch": self.patch,
            "channels": list(self.channels),
            "layers": self.layers,
            "attention": list(self.attention),
            "classes": classes,
        }

    def check_for(self, shape: tuple[int, ...]) -> None:
        """Raise InputError for values that cannot be used on images of ``shape``, before anything is written."""
        _ = self.training, self.sampler.timesteps(self.schedule)
        for name in ("train_size", "chunk"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: {getattr(self, name)} must be at least 1")
        if not 1 <= self.threads <= 1024:
            raise InputError(f"threads: {self.threads} is outside 1..1024")
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise InputError(f"device: {self.device} is not available; choose cpu")
        build(self.network(shape))

    def fit_to(
        self,
        data: Tensor,
        folder: Path,
        target: str,
        *,
        labels: Tensor | None = None,
        classes: int = 0,
        start: NetworkDenoiser | None = None,
        progress: Progress | None = None,
    ) -> Trained:
        """Train on images (n, C, size, size), or load the model from its folder.

        Args:
            data: the images.
            folder: of the model.
            target: what the data is.
            labels: (n,) classes 0 .. ``classes`` - 1 that the network is told.
            classes: how many there are.
            start: training goes on from this model's weights instead of fresh ones.
            progress: shown to the user.
        """
        return fit(
            folder,
            self.network(tuple(data.shape[1:]), classes),
            self.schedule,
            data,
            self.training,
            target=target,
            prediction="v",
            labels=labels,
            start=start,
            device=self.device,
            threads=self.threads,
            progress=progress,
        )

    def shipped(self, name: str) -> Trained:
        """The model that comes with the package."""
        return shipped_model(name, self.schedule, name, self.device)

    def sampled(self, denoiser: NetworkDenoiser) -> NetworkDenoiser:
        """The denoiser as it samples fastest at this precision."""
        network: Any = denoiser.network
        if self.device.startswith("cuda"):
            network = network.to(memory_format=torch.channels_last)
        if self.compile:
            network = torch.compile(network)
        autocast = torch.bfloat16 if self.precision == "bf16" else None
        return NetworkDenoiser(network, denoiser.schedule, denoiser.prediction, autocast=autocast)
