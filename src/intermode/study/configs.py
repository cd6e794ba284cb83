"""Configs that the studies share: what the data is, the noise, the network, its training, and pools of samples.

All are frozen dataclasses of plain numbers and words, each checking itself, and all together are a job's identity.
Fields that change no result take no part in comparison (``field(compare=False)``), nor in the identity.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

from torch import Tensor

from intermode.blocks import Plan
from intermode.denoisers import Denoiser, Prediction
from intermode.errors import InputError
from intermode.models import shipped
from intermode.networks import build
from intermode.samplers import Ancestral
from intermode.schedules import Schedule, cosine, linear
from intermode.targets import Target
from intermode.targets.gaussian import GaussianMixture, line
from intermode.targets.lattice import LATTICES
from intermode.targets.shapes import Shapes
from intermode.training import TrainConfig

__all__ = [
    "MLP",
    "CosineNoise",
    "Drawing",
    "ImageModel",
    "Lattice",
    "LatticeModel",
    "LineModel",
    "LinearNoise",
    "LocalConv",
    "LocalShapesModel",
    "Mixture",
    "Model",
    "Pool",
    "ShapesModel",
    "Training",
    "UNet",
    "UnevenMixture",
    "check_least",
]


def check_least(config: Any, least: int, *names: str) -> None:
    """Raise InputError for a field under ``least``."""
    for name in names:
        if getattr(config, name) < least:
            raise InputError(f"{name}: {getattr(config, name)} must be at least {least}")


@dataclass(frozen=True)
class Mixture:
    """A 1-D mixture of Gaussians of equal weight.

    Attributes:
        means: centres of the modes.
        sigma: their standard deviation.
    """

    means: tuple[float, ...] = (1.0, 2.0, 3.0)
    sigma: float = 0.05

    def __post_init__(self) -> None:
        _ = self.target
        if len(set(self.means)) < 2:
            listed = " ".join(f"{m:g}" for m in self.means)
            raise InputError(f"means: {listed}; at least two different modes are needed")

    @property
    def target(self) -> GaussianMixture:
        return line(self.means, self.sigma)

    @property
    def words(self) -> str:
        """For the record of a model."""
        return f"Gaussians at {', '.join(f'{m:g}' for m in self.means)} of standard deviation {self.sigma:g}"


@dataclass(frozen=True)
class UnevenMixture(Mixture):
    """A 1-D mixture of Gaussians of other weights.

    Attributes:
        weights: of the modes, as many; divided by their sum.
    """

    weights: tuple[float, ...] = (1.0, 1.0, 1.0)

    @property
    def target(self) -> GaussianMixture:
        return line(self.means, self.sigma, self.weights)

    @property
    def words(self) -> str:
        return f"{super().words}, weights {', '.join(f'{weight:g}' for weight in self.weights)}"


@dataclass(frozen=True)
class Lattice:
    """A square lattice of 2-D Gaussians.

    Attributes:
        kind: grid (axis-aligned) or diamond (turned by 45°).
        side: modes along a side.
    """

    kind: Literal["grid", "diamond"] = "grid"
    side: int = 5

    def __post_init__(self) -> None:
        _ = self.target

    @property
    def target(self) -> GaussianMixture:
        return LATTICES[self.kind](self.side)

    @property
    def words(self) -> str:
        return self.kind if self.side == 5 else f"{self.side} by {self.side} {self.kind}"


@dataclass(frozen=True)
class LinearNoise:
    """A schedule of linear betas.

    Attributes:
        timesteps: T.
        beta_start, beta_end: first and last beta.
    """

    timesteps: int = 1000
    beta_start: float = 0.001
    beta_end: float = 0.2

    def __post_init__(self) -> None:
        self.schedule.check_float32()

    @property
    def schedule(self) -> Schedule:
        return linear(self.timesteps, self.beta_start, self.beta_end)


@dataclass(frozen=True)
class CosineNoise:
    """A cosine schedule.

    Attributes:
        timesteps: T.
    """

    timesteps: int = 1000

    def __post_init__(self) -> None:
        _ = self.schedule

    @property
    def schedule(self) -> Schedule:
        return cosine(self.timesteps)


@dataclass(frozen=True)
class MLP:
    """A residual network for a few numbers.

    Attributes:
        width: of the hidden layers.
        tied_blocks: use one residual block three times, as the released code does.
    """

    width: int = 128
    tied_blocks: bool = False

    def __post_init__(self) -> None:
        build(self.description((1,)))

    def description(self, shape: tuple[int, ...], classes: int = 0) -> dict[str, Any]:
        """For :func:`intermode.networks.build`."""
        return {"kind": "mlp", "dimensions": shape[0], "width": self.width, "tied_blocks": self.tied_blocks}


@dataclass(frozen=True)
class UNet:
    """A U-Net for images.

    Attributes:
        patch: side of the patches that it folds into channels.
        channels: from the finest resolution on.
        layers: residual blocks at each resolution.
        attention: the resolutions with self-attention, counted from the finest, 0.
    """

    patch: int = 4
    channels: tuple[int, ...] = (64, 64, 64)
    layers: int = 1
    attention: tuple[int, ...] = (2,)

    def description(self, shape: tuple[int, ...], classes: int = 0) -> dict[str, Any]:
        """For :func:`intermode.networks.build`."""
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


@dataclass(frozen=True)
class LocalConv:
    """A convolutional network of images that sees (2 reach + 1) patches.

    Attributes:
        patch: side of the patches that it folds into channels.
        width: channels inside.
        blocks: residual blocks ...
        reach: ... of which so many look at neighbouring patches.
        position: tell each place where it is.
        attention: look at everything, once.
    """

    patch: int = 4
    width: int = 96
    blocks: int = 4
    reach: int = 4
    position: bool = True
    attention: bool = False

    def description(self, shape: tuple[int, ...], classes: int = 0) -> dict[str, Any]:
        """For :func:`intermode.networks.build`."""
        return {
            "kind": "local",
            "sample_size": shape[-1],
            "in_channels": shape[0],
            **asdict(self),
            "classes": classes,
        }


@dataclass(frozen=True)
class Training:
    """How a network is trained; see :class:`intermode.training.TrainConfig`.

    Attributes:
        steps: optimiser steps.
        batch: samples in a step.
        learning_rate: of Adam, at the start.
        decay: of the learning rate: cosine, or none as in the paper.
        ema: decay of the average of the weights; 0 for none.
        precision: no (float32), bf16 or fp16.
        compile: compile the network, worth its minute on a GPU.
        checkpoint_every: steps between two checkpoints.
    """

    steps: int = 4000
    batch: int = 1000
    learning_rate: float = 1e-3
    decay: Literal["cosine", "none"] = "cosine"
    ema: float = 0.0
    precision: Literal["no", "bf16", "fp16"] = "no"
    compile: bool = False
    checkpoint_every: int = field(default=1000, compare=False)

    def __post_init__(self) -> None:
        _ = self.seeded(0)

    def seeded(self, seed: int) -> TrainConfig:
        """With the seed of batches and noise."""
        return TrainConfig(**asdict(self), seed=seed)


@dataclass(frozen=True)
class Model:
    """A model: all that its weights depend on.

    Attributes:
        size: training samples.
        seed: of data, weights, batches and noise.
        shipped: name of a model of the package to take instead of training one.
    """

    size: int = 50_000
    seed: int = 0
    shipped: str | None = None
    prediction: ClassVar[Prediction] = "eps"
    classes: ClassVar[int] = 0
    # subclasses give them as fields, each with its own type
    target: Any = field(init=False, repr=False, compare=False, default=None)
    noise: Any = field(init=False, repr=False, compare=False, default=None)
    network: Any = field(init=False, repr=False, compare=False, default=None)
    train: Any = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        check_least(self, 1, "size")
        check_least(self, 0, "seed")
        build(self.network.description(self.shape, self.classes))
        if self.shipped is not None:
            shipped(self.shipped, self.noise.schedule, self.words)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return tuple(self.target.target.shape)

    @property
    def words(self) -> str:
        """What the data is, for the record."""
        return str(self.target.words)

    def data(self) -> tuple[Tensor, Tensor | None]:
        """Training samples, and their classes if they have any."""
        return self.target.target.sample(self.size, self.seed), None

    def fresh(self) -> Target | None:
        """What every batch is drawn of anew, in place of training samples."""
        return None

    def ideal(self) -> Denoiser | None:
        """What it learns, in place of the noise that was drawn."""
        return None

    def training(self) -> TrainConfig:
        """How it is trained, with its seed."""
        return self.train.seeded(self.seed)


@dataclass(frozen=True)
class LineModel(Model):
    """A model of a 1-D mixture."""

    target: Mixture = Mixture()
    noise: LinearNoise = LinearNoise()
    network: MLP = MLP()
    train: Training = Training()


@dataclass(frozen=True)
class LatticeModel(Model):
    """A model of a 2-D lattice."""

    size: int = 100_000
    target: Lattice = Lattice()
    noise: LinearNoise = LinearNoise()
    network: MLP = MLP()
    train: Training = Training()


@dataclass(frozen=True)
class ImageModel(Model):
    r"""A model of images.

    It predicts :math:`v = a_t \varepsilon - s_t x_0`, not :math:`\varepsilon`: a cosine schedule ends at
    :math:`a_T = 5 \cdot 10^{-5}`, and an error of the predicted noise would enter :math:`\hat x_0` 20,000 times larger.
    The usual cure, clipping :math:`\hat x_0`, would hide from Hal what it looks at.
    """

    size: int = 5000
    prediction: ClassVar[Prediction] = "v"
    noise: CosineNoise | LinearNoise = CosineNoise()
    network: UNet | LocalConv = UNet()
    train: Training = Training(steps=12_000, batch=32, ema=0.999)


@dataclass(frozen=True)
class Images:
    """Simple Shapes.

    Attributes:
        keep_blank: all-black images are part of the data.
    """

    keep_blank: bool = False

    @cached_property
    def target(self) -> Shapes:
        return Shapes(self.keep_blank)

    @property
    def words(self) -> str:
        return "shapes, blank ones among them" if self.keep_blank else "shapes"


@dataclass(frozen=True)
class ShapesModel(ImageModel):
    """A model of Simple Shapes."""

    target: Images = Images()


@dataclass(frozen=True)
class LocalShapesModel(ShapesModel):
    """A model of Simple Shapes that sees a part of the image only.

    Blank images stay in the data: it cannot know that the other columns are blank, too.
    """

    target: Images = Images(keep_blank=True)
    network: LocalConv = LocalConv()
    train: Training = Training(steps=12_000, batch=32, learning_rate=2e-3, ema=0.999)


@dataclass(frozen=True)
class Drawing:
    """How samples are drawn of a model, by the ancestral sampler.

    Attributes:
        variance: of the steps: large (beta_t, as in the paper) or small (the posterior variance).
        steps: respaced ones; all timesteps unless given.
        chunk: samples drawn together.
    """

    variance: Literal["large", "small"] = "large"
    steps: int | None = None
    chunk: int = 1024

    def __post_init__(self) -> None:
        _ = self.of(1)

    @property
    def sampler(self) -> Ancestral:
        return Ancestral(self.variance, self.steps)

    def of(self, n: int) -> Pool:
        """A pool of n samples."""
        return Pool(self.variance, self.steps, self.chunk, n)


@dataclass(frozen=True)
class Pool(Drawing):
    """Samples drawn of a model.

    Attributes:
        n: how many.
    """

    chunk: int = 16_384
    n: int = 1_000_000

    def __post_init__(self) -> None:
        _ = self.plan((1,), 0), self.sampler

    def plan(self, shape: tuple[int, ...], seed: int, device: str = "cpu") -> Plan:
        """The samples of a seed."""
        return Plan(self.n, shape, seed, self.chunk, device=device)
