r"""A LeNet as a classifier of digits, and as the feature space in which generated digits are compared.

Trained by Adam on the cross-entropy, epoch by epoch in an order that belongs to (seed, epoch); the learning rate
falls to zero along half a cosine. With one thread on a CPU, the weights belong to (seed, data, versions), bit for
bit.

The package ships one that was trained on MNIST. Its folder has ``model.safetensors`` and ``config.json``, with
the provenance of the weights and their accuracy on the test split; nothing is unpickled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from intermode.errors import InputError
from intermode.evaluation import Estimate, share
from intermode.files import load_tensors, read_json, save_tensors, write_json
from intermode.networks import build
from intermode.networks.lenet import LeNet
from intermode.noise import draws
from intermode.progress import Progress, Silent
from intermode.targets.digits import Digits, Range, scaled

__all__ = ["ClassifierConfig", "accuracy", "classify", "features", "fit", "load_classifier", "save_classifier"]

FORMAT = "intermode-classifier-1"
SHIPPED = Path(__file__).parent / "pretrained" / "lenet-mnist"
BLOCK = 1000
"""Images that a network sees at once when it is not trained."""


@dataclass(frozen=True)
class ClassifierConfig:
    """How a classifier is trained.

    Args:
        epochs: passes over the data.
        batch: images in a step.
        learning_rate: of Adam at the start.
        seed: of weights and order.

    Raises:
        InputError: a value outside its range.
    """

    epochs: int = 10
    batch: int = 128
    learning_rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: {getattr(self, name)} must be at least 1")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate: {self.learning_rate} must be positive and finite")
        if self.seed < 0:
            raise InputError(f"seed: {self.seed} must be at least 0")


def fit(
    data: Digits, config: ClassifierConfig, *, device: str | torch.device = "cpu", progress: Progress | None = None
) -> LeNet:
    """A LeNet trained on ``data``.

    Raises:
        FloatingPointError: the loss is no longer finite.
    """
    network = build({"kind": "lenet"}, config.seed).to(device)
    assert isinstance(network, LeNet)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, fused=True)
    x, y = data.x.to(device), data.y.to(device)
    steps = math.ceil(len(data) / config.batch)
    with (progress or Silent()).task("training the classifier", config.epochs * len(data), unit="images") as task:
        for epoch in range(config.epochs):
            order = torch.from_numpy(draws(config.seed, "train", epoch).permutation(len(data))).to(device)
            total = torch.zeros((), device=device)
            for step, rows in enumerate(order.split(config.batch)):
                done = (epoch + step / steps) / config.epochs
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * (1 + math.cos(math.pi * done)) / 2
                loss = cross_entropy(network(x[rows]), y[rows])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total += loss.detach()
                task.advance(len(rows))
            if not torch.isfinite(total):
                raise FloatingPointError(
                    f"the classifier's loss is {float(total)} in epoch {epoch + 1}; lower the learning rate"
                )
    return network.eval().requires_grad_(False)


def _blocks(network: LeNet, x: Tensor | np.ndarray, range: Range) -> Iterator[Tensor]:
    device = next(network.parameters()).device
    for block in torch.as_tensor(x).split(BLOCK):
        yield scaled(block, range).to(device)


@torch.no_grad()
def features(network: LeNet, x: Tensor | np.ndarray, range: Range = "[-1,1]") -> np.ndarray:
    """(n, 84) float32 features of images, see :func:`intermode.targets.digits.scaled` for what they may be.

    Raises:
        InputError: images of another shape, dtype or range, or not finite.
    """
    return np.concatenate([network.features(block).cpu().numpy() for block in _blocks(network, x, range)])


@torch.no_grad()
def classify(network: LeNet, x: Tensor | np.ndarray, range: Range = "[-1,1]") -> np.ndarray:
    """(n,) int64, the most probable class of each image.

    Raises:
        InputError: images of another shape, dtype or range, or not finite.
    """
    return np.concatenate([network(block).argmax(1).cpu().numpy() for block in _blocks(network, x, range)])


def accuracy(network: LeNet, data: Digits) -> Estimate:
    """Share of digits classified rightly, with Wilson's interval."""
    return share(int((classify(network, data.images) == data.classes).sum()), len(data))


def save_classifier(folder: Path, network: LeNet, provenance: dict[str, Any]) -> None:
    """Write a classifier's folder; weights first, so that a folder with a config is a complete one."""
    save_tensors(folder / "model.safetensors", network.state_dict())
    write_json(folder / "config.json", {"format": FORMAT, "network": network.description, "provenance": provenance})


def load_classifier(folder: Path = SHIPPED) -> LeNet:
    """The classifier in a folder; unless one is named, the one trained on MNIST that comes with the package.

    Raises:
        InputError: a folder that is missing or no classifier's, weights that are truncated, a pickle, or do not fit.
    """
    config = read_json(folder / "config.json")
    if not isinstance(config, dict) or config.get("format") != FORMAT or "network" not in config:
        raise InputError(f"{folder / 'config.json'}: is not the config of an intermode classifier")
    network = build(config["network"])
    tensors, _ = load_tensors(folder / "model.safetensors")
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise InputError(f"{folder}: weights do not fit the network in config.json ({first})") from None
    if not isinstance(network, LeNet):
        raise InputError(f"{folder}: holds no LeNet but a network of kind {config['network']['kind']}")
    return network.eval().requires_grad_(False)
