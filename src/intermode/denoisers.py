r"""Denoisers: :math:`\hat x_0(x_t, t)`, the prediction of the data behind a noised sample.

With :math:`x_t = a_t x_0 + s_t \varepsilon` everything else follows from :math:`\hat x_0` (Tweedie):

.. math::
    \hat\varepsilon = \frac{x_t - a_t \hat x_0}{s_t}, \qquad
    \nabla \log p_t(x_t) = \frac{a_t \hat x_0 - x_t}{s_t^2}.

A network may predict something else, from which :math:`\hat x_0` is recovered:
:math:`\varepsilon`; :math:`x_0`; :math:`v = a_t \varepsilon - s_t x_0` (Salimans & Ho 2022); or the flow
:math:`u = \varepsilon - x_0` (rectified flow), where :math:`\hat x_0 = (x_t - s_t u) / (a_t + s_t)`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor, nn

from intermode.errors import InputError
from intermode.progress import Progress, Silent
from intermode.schedules import Schedule
from intermode.targets.gaussian import GaussianMixture

__all__ = [
    "Denoiser",
    "MixtureDenoiser",
    "NetworkDenoiser",
    "Prediction",
    "TabulatedDenoiser",
    "UnknownShape",
    "digest",
]

Prediction = Literal["eps", "x0", "v", "flow"]
Own = TypeVar("Own", bound="NetworkDenoiser")


def digest(arrays: Sequence[np.ndarray]) -> str:
    """The beginning of the SHA-256 of some arrays."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


class UnknownShape(InputError):
    """A model that does not say the shape of its samples."""


class Denoiser:
    """Base of all denoisers: ``denoiser(x_t, t, **condition) -> x0_hat``, unclipped, with its ``schedule``.

    ``x_t`` is (B, ...), ``t`` an int or a (B,) tensor of timesteps, the result has the shape of ``x_t``.
    """

    schedule: Schedule

    @property
    def dtype(self) -> torch.dtype:
        """The precision it works in at its best."""
        return torch.float64

    @property
    def device(self) -> torch.device:
        """Where it works."""
        return torch.device("cpu")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample.

        Raises:
            UnknownShape: it is not known.
        """
        raise UnknownShape(f"model: {type(self).__name__} does not say the shape of its samples; give it a shape")

    @property
    def classes(self) -> int | None:
        """How many classes it is told by ``class_labels``: 0 if it is told none, None if nobody can count them."""
        return 0

    @property
    def identity(self) -> dict[str, str]:
        """What tells it from others, for the record of what was made with it."""
        levels = np.concatenate([self.schedule.signal, self.schedule.noise])
        return {"denoiser": type(self).__name__, "schedule": digest([levels])}

    def __call__(self, x_t: Tensor, t: int | Tensor, **condition: Any) -> Tensor:
        raise NotImplementedError  # the contract; every subclass defines it

    def eps(self, x_t: Tensor, t: int | Tensor, **condition: Any) -> Tensor:
        """The noise that x0_hat implies."""
        a, s = self.schedule.level_like(t, x_t)
        return (x_t - a * self(x_t, t, **condition)) / s

    def score(self, x_t: Tensor, t: int | Tensor, **condition: Any) -> Tensor:
        """The gradient of log p_t that x0_hat implies."""
        a, s = self.schedule.level_like(t, x_t)
        return (a * self(x_t, t, **condition) - x_t) / s**2


class NetworkDenoiser(Denoiser):
    """A trained network. One of half precision is shown x_t rounded to it; x0_hat stays as precise as x_t.

    Args:
        network: called with (x_t, t, **condition); ``t`` is a () or (B,) int64 tensor. A `diffusers` model is
            recognised by the ``sample`` field of its output.
        schedule: that it was trained with.
        prediction: what the network's output means.

    Raises:
        InputError: an unknown prediction, or a schedule whose signal float32 cannot divide by.
    """

    def __init__(self, network: nn.Module, schedule: Schedule, prediction: Prediction = "eps") -> None:
        if prediction not in get_args(Prediction):
            raise InputError(f"prediction: unknown {prediction!r}; choose one of {', '.join(get_args(Prediction))}")
        schedule.check_float32()
        self.network, self.schedule, self.prediction = network, schedule, prediction

    @property
    def dtype(self) -> torch.dtype:
        return torch.promote_types(next(self.network.parameters()).dtype, torch.float32)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, as the network says (a `diffusers` model: in its config)."""
        if hasattr(self.network, "shape"):
            return tuple(int(size) for size in self.network.shape)  # type: ignore[union-attr] # its own property
        config: Any = self.network.config
        size = config.sample_size
        if size is None:
            raise UnknownShape("model: the config of its network has no sample_size, so its samples' shape is unknown")
        height, width = (size, size) if isinstance(size, int) else size
        return int(config.in_channels), int(height), int(width)

    @property
    def classes(self) -> int | None:
        config: Any = getattr(self.network, "config", getattr(self.network, "description", {}))
        config = config if isinstance(config, dict) else vars(config)
        if "classes" in config:  # with one more class that means none, which nobody's sample belongs to
            return int(config["classes"])
        if config.get("num_class_embeds"):
            return int(config["num_class_embeds"])
        return None if config.get("class_embed_type") else 0

    @property
    def identity(self) -> dict[str, str]:
        state = self.network.state_dict()
        weights = digest([state[name].float().cpu().numpy() for name in sorted(state)])
        return super().identity | {"denoiser": "network", "prediction": self.prediction, "weights": weights}

    def to(self: Own, device: str | torch.device) -> Own:
        """Itself, its network moved to a device."""
        self.network.to(device)
        return self

    def __call__(self, x_t: Tensor, t: int | Tensor, **condition: Any) -> Tensor:
        return self.x0_of(self.predict(x_t, t, **condition), x_t, t)

    def x0_of(self, output: Tensor, x_t: Tensor, t: int | Tensor) -> Tensor:
        """The x0_hat that a network's output stands for, all (B, ...): linear in (output, x_t)."""
        a, s = self.schedule.level_like(t, x_t)
        if self.prediction == "eps":
            return (x_t - s * output) / a
        if self.prediction == "x0":
            return output
        if self.prediction == "v":
            return (a * x_t - s * output) / (a**2 + s**2)
        return (x_t - s * output) / (a + s)

    def predict(self, x_t: Tensor, t: int | Tensor, **condition: Any) -> Tensor:
        """The network's own output, (B, ...)."""
        time = torch.tensor(t, device=x_t.device) if isinstance(t, int) else t
        weight = next(self.network.parameters(), x_t)  # a function in a module's place has none
        output = self.network(x_t.to(weight.dtype), time, **condition)
        output = output.sample if hasattr(output, "sample") else output
        return output.to(x_t.dtype)


class MixtureDenoiser(Denoiser):
    """The ideal denoiser of a Gaussian mixture: the posterior mean in closed form."""

    def __init__(self, mixture: GaussianMixture, schedule: Schedule) -> None:
        self.mixture, self.schedule = mixture, schedule

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mixture.shape

    @property
    def identity(self) -> dict[str, str]:
        numbers = digest([self.mixture.means, self.mixture.sigma, self.mixture.weights])
        return super().identity | {"mixture": numbers}

    def __call__(self, x_t: Tensor, t: int | Tensor, **condition: Any) -> Tensor:
        if isinstance(t, int):
            return self.mixture.posterior_mean(x_t, *self.schedule.level(t))
        a, s = self.schedule.level_like(t, x_t)
        mixture = (self.mixture.means, self.mixture.sigma, self.mixture.weights)
        means, sigma, weights = (torch.as_tensor(part).to(x_t) for part in mixture)
        variance = (a * sigma) ** 2 + s**2  # (B, K): a level for each sample
        square = sum((x_t[:, i, None] - a * means[:, i]) ** 2 for i in range(x_t.shape[1]))
        logs = torch.log(weights) - 0.5 * (square / variance + x_t.shape[1] * torch.log(variance))
        responsibility, pull = torch.softmax(logs, dim=1), a * sigma**2 / variance
        return (responsibility * (1 - a * pull)) @ means + (responsibility * pull).sum(1, keepdim=True) * x_t


class TabulatedDenoiser(Denoiser):
    """A 1-D or 2-D denoiser evaluated once per timestep on a fixed grid, then interpolated linearly.

    What is tabulated is the noise prediction, which stays bounded. Beyond the grid its edge value holds, while
    x0_hat still follows x_t: a sample that runs away does so as it would with the network. Tables are made
    when a timestep is first asked for, and kept.

    Args:
        denoiser: of samples of shape (1,) or (2,).
        low, high: range of the grid in every dimension; fixed, so that one far-out sample cannot stretch it.
        points: grid points per dimension (default: 4096 in 1-D, 512 in 2-D).
        dimensions: 1 or 2.
        begin: timesteps under it go to ``denoiser`` itself. In 2-D a table of the last, sharpest timesteps would
            need more points than there are samples, while for all others a coarse one serves.
        chunk: network evaluations at a time.

    Raises:
        InputError: an empty range, fewer than 2 points, or more than two dimensions.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        low: float,
        high: float,
        *,
        points: int | None = None,
        dimensions: int = 1,
        begin: int = 0,
        chunk: int = 8192,
    ) -> None:
        if not low < high:
            raise InputError(f"grid: low {low} must be under high {high}")
        if dimensions not in (1, 2):
            raise InputError(f"dimensions: {dimensions} cannot be tabulated; choose 1 or 2")
        self.points = (4096 if dimensions == 1 else 512) if points is None else points
        if self.points < 2:
            raise InputError(f"points: {self.points} is too few; a grid needs at least 2")
        self.denoiser, self.schedule = denoiser, denoiser.schedule
        self.low, self.high, self.dimensions, self.begin, self._chunk = low, high, dimensions, begin, chunk
        self._tables: dict[tuple[int, torch.device, torch.dtype], Any] = {}

    @property
    def dtype(self) -> torch.dtype:
        return self.denoiser.dtype

    @property
    def device(self) -> torch.device:
        return self.denoiser.device

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.dimensions,)

    @property
    def identity(self) -> dict[str, str]:
        grid = f"{self.points} points in {self.low}..{self.high} from t = {self.begin}"
        return self.denoiser.identity | {"table": grid}

    def __call__(self, x_t: Tensor, t: int | Tensor, **condition: Any) -> Tensor:
        if condition:
            raise InputError("condition: a tabulated denoiser takes none")
        if not isinstance(t, int):
            raise InputError("t: a tabulated denoiser takes one int for the whole batch")
        if t < self.begin:
            return torch.cat([self.denoiser(part, t) for part in x_t.split(self._chunk)])
        if tuple(x_t.shape[1:]) != (self.dimensions,):
            raise InputError(f"x_t: samples of shape {tuple(x_t.shape[1:])}; the table is of ({self.dimensions},)")
        a, s = self.schedule.level(t)
        return torch.add(x_t, self._eps(x_t, t), alpha=-s).div_(a)

    def prepare(self, timesteps: Sequence[int], *, device: str = "cpu", progress: Progress | None = None) -> None:
        """Make the tables of these timesteps now, for float32 samples, rather than when they are first needed."""
        like = torch.zeros((1, self.dimensions), device=device)
        tabulated = [t for t in timesteps if t >= self.begin]
        with (progress or Silent()).task("tabulating", len(tabulated), 0, "timesteps") as task:
            for t in tabulated:
                self._eps(like, t)
                task.advance(1)

    def _eps(self, x: Tensor, t: int) -> Tensor:
        key = (t, x.device, x.dtype)
        if key not in self._tables:
            self._tables[key] = self._tabulate(t, x)
        scale = (self.points - 1) / (self.high - self.low)
        if self.dimensions == 1:
            value, rise = self._tables[key]
            # NaN would become an arbitrary index: it is sent to the grid's edge, and x_t carries it on
            place = ((x[:, 0] - self.low) * scale).clamp_(0, self.points - 1).nan_to_num_(0.0)
            left = place.long().clamp_(max=self.points - 2)
            return torch.addcmul(value[left], rise[left], place - left)[:, None]
        unit = (2 * (x - self.low) / (self.high - self.low) - 1).nan_to_num(0.0)
        grid = unit.reshape(1, 1, -1, 2)  # grid_sample reads (column, row); the table is stored to match
        field = nn.functional.grid_sample(self._tables[key], grid, padding_mode="border", align_corners=True)
        return field.reshape(2, -1).T

    @torch.no_grad()
    def _tabulate(self, t: int, like: Tensor) -> Any:
        axis = torch.linspace(self.low, self.high, self.points, dtype=torch.float64).to(like.device, like.dtype)
        if self.dimensions == 1:
            nodes = axis[:, None]
        else:
            nodes = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)
        eps = torch.cat([self.denoiser.eps(part, t) for part in nodes.split(self._chunk)])
        if self.dimensions == 1:
            value = eps[:, 0].contiguous()
            return value, torch.diff(value)
        return eps.T.reshape(1, 2, self.points, self.points).contiguous()
