r"""Noise schedules: the forward process :math:`q(x_t \mid x_0)`.

.. math::
    q(x_t \mid x_0) = \mathcal N(a_t x_0,\; s_t^2 I)

with the signal level :math:`a_t` and the noise level :math:`s_t`. A variance-preserving schedule (DDPM,
Ho et al. 2020, eq. 4) has :math:`a_t^2 = \bar\alpha_t = \prod_{j \le t} (1 - \beta_j)` and
:math:`s_t^2 = 1 - \bar\alpha_t`; flow matching has :math:`a_t = 1 - \sigma_t`, :math:`s_t = \sigma_t`.

Timesteps count from 0 (least noise) to T - 1 (pure noise), as in `diffusers` and in the paper's "t = 0 to
t = 15". The clean data is ``CLEAN`` = -1, where a = 1 and s = 0. Coefficients are float64: with the paper's
betas :math:`\sqrt{\bar\alpha_T}` is about 1e-23.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intermode.errors import InputError
from intermode.values import as_numbers

__all__ = ["CLEAN", "Schedule", "cosine", "from_config", "from_diffusers", "linear"]

CLEAN = -1
"""The timestep of the data itself: no noise at all."""
SMALLEST_SIGNAL = 1e-30
"""x0_hat grows as its inverse, and float32 ends at 3e38."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """Signal and noise level of every timestep.

    Args:
        signal: (T,) float64, a_t, positive and not increasing.
        noise: (T,) float64, s_t, positive and not decreasing.
        config: what :func:`from_config` needs to build the same schedule again.

    Raises:
        InputError: fewer than two timesteps, or levels out of their ranges.
    """

    signal: np.ndarray
    noise: np.ndarray
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("signal", "noise"):
            object.__setattr__(self, name, as_numbers(name, getattr(self, name)))
        if len(self.signal) < 2:
            raise InputError(f"timesteps: {len(self.signal)} is too few; a schedule needs at least 2")
        if self.signal.shape != self.noise.shape or self.signal.ndim != 1:
            raise InputError("schedule: signal and noise must be one-dimensional and of one length")
        levels = np.concatenate([self.signal, self.noise])
        if not (np.isfinite(levels).all() and (self.signal > 0).all() and (self.noise > 0).all()):
            raise InputError("schedule: every signal and noise level must be finite and positive")
        if (np.diff(self.signal) > 0).any() or (np.diff(self.noise) < 0).any():
            raise InputError("schedule: the signal must fall and the noise rise with t")

    def __len__(self) -> int:
        """T, the number of timesteps."""
        return len(self.signal)

    @property
    def alpha_bar(self) -> np.ndarray:
        """(T,) float64, the squared signal level (in a variance-preserving schedule: alpha bar)."""
        return self.signal**2

    def check_float32(self) -> None:
        """Raise InputError unless float32 can hold x0_hat = (x_t - s_t eps) / a_t at every timestep.

        The paper's betas at T = 1000 end at a = 6e-24; at T = 2000 it would be 1e-47, which float32 takes for 0.
        """
        if self.signal.min() < SMALLEST_SIGNAL:
            raise InputError(
                f"timesteps: the signal falls to {self.signal.min():.1g}, float32 needs {SMALLEST_SIGNAL:g}; take "
                "fewer timesteps or smaller betas"
            )

    def level(self, t: int) -> tuple[float, float]:
        """(a_t, s_t) of one timestep; (1, 0) for ``CLEAN``."""
        if t == CLEAN:
            return 1.0, 0.0
        if not 0 <= t < len(self):
            raise InputError(f"t: {t} is outside 0..{len(self) - 1}")
        return float(self.signal[t]), float(self.noise[t])

    def level_like(self, t: int | Tensor, x: Tensor) -> tuple[Any, Any]:
        """(a_t, s_t) ready to multiply ``x`` (B, ...): floats for an int, else (B, 1, ...) tensors."""
        if isinstance(t, int):
            return self.level(t)
        index = t.detach().cpu().numpy().astype(np.int64)
        if ((index < CLEAN) | (index >= len(self))).any():
            raise InputError(f"t: {index.min()}..{index.max()} reaches outside {CLEAN}..{len(self) - 1}")
        shape = (-1,) + (1,) * (x.ndim - 1)
        levels = (np.append(self.signal, 1.0)[index], np.append(self.noise, 0.0)[index])  # CLEAN, -1, comes last
        a, s = (torch.from_numpy(level).to(x.device, x.dtype).reshape(shape) for level in levels)
        return a, s

    def add_noise(self, x_0: Tensor, eps: Tensor, t: int | Tensor) -> Tensor:
        """x_t = a_t x_0 + s_t eps, all (B, ...)."""
        a, s = self.level_like(t, x_0)
        return a * x_0 + s * eps

    def respaced(self, steps: int | None) -> tuple[int, ...]:
        """``steps`` timesteps spread evenly from T - 1 down to 0 (all of them for None).

        Both ends are kept, as in ADM's respacing (Nichol & Dhariwal 2021, section 4).
        """
        total = len(self)
        if steps is None:
            return tuple(range(total - 1, -1, -1))
        if not isinstance(steps, Integral) or not 2 <= steps <= total:
            raise InputError(f"steps: {steps!r} is outside 2..{total}, the timesteps of the schedule")
        return tuple(int(t) for t in np.linspace(0, total - 1, steps).round()[::-1])


def _from_betas(betas: np.ndarray, config: dict[str, Any]) -> Schedule:
    alpha_bar = np.cumprod(1.0 - betas)
    return Schedule(np.sqrt(alpha_bar), np.sqrt(1.0 - alpha_bar), config)


def linear(timesteps: int = 1000, beta_start: float = 0.001, beta_end: float = 0.2) -> Schedule:
    """Betas on a straight line; the defaults are the paper's for Gaussians (A.1).

    Raises:
        InputError: T < 2, or betas that are not 0 < beta_start <= beta_end < 1.
    """
    if timesteps < 2:
        raise InputError(f"timesteps: {timesteps} is too few; T must be at least 2")
    if not 0 < beta_start <= beta_end < 1:
        raise InputError(f"betas: {beta_start} to {beta_end} must satisfy 0 < beta_start <= beta_end < 1")
    config = {"kind": "linear", "timesteps": timesteps, "beta_start": beta_start, "beta_end": beta_end}
    return _from_betas(np.linspace(beta_start, beta_end, timesteps, dtype=np.float64), config)


def cosine(timesteps: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> Schedule:
    """Nichol & Dhariwal 2021, eq. 17: alpha bar follows a squared cosine, betas capped at ``max_beta``."""
    if timesteps < 2:
        raise InputError(f"timesteps: {timesteps} is too few; T must be at least 2")
    u = np.arange(timesteps + 1, dtype=np.float64) / timesteps
    curve = np.cos((u + offset) / (1 + offset) * math.pi / 2) ** 2
    config = {"kind": "cosine", "timesteps": timesteps, "offset": offset, "max_beta": max_beta}
    return _from_betas(np.minimum(1 - curve[1:] / curve[:-1], max_beta), config)


def from_diffusers(scheduler: Any) -> Schedule:
    """The schedule of a `diffusers` scheduler, from its ``alphas_cumprod``.

    Raises:
        InputError: the scheduler has no ``alphas_cumprod``.
    """
    alphas_cumprod = getattr(scheduler, "alphas_cumprod", None)
    if alphas_cumprod is None:
        raise InputError(f"scheduler: {type(scheduler).__name__} has no alphas_cumprod")
    alpha_bar = np.asarray(alphas_cumprod, dtype=np.float64)
    return from_config({"kind": "explicit", "alpha_bar": alpha_bar.tolist()})


def from_config(config: dict[str, Any]) -> Schedule:
    """The schedule that ``config`` describes (see :attr:`Schedule.config`).

    Raises:
        InputError: a kind that is not linear, cosine or explicit.
    """
    settings = dict(config)
    kind = settings.pop("kind", None)
    try:
        if kind == "linear":
            return linear(**settings)
        if kind == "cosine":
            return cosine(**settings)
        if kind == "explicit":
            alpha_bar = np.asarray(settings["alpha_bar"], dtype=np.float64)
            return Schedule(np.sqrt(alpha_bar), np.sqrt(1.0 - alpha_bar), config)
    except (KeyError, TypeError) as error:
        raise InputError(f"schedule: settings of kind {kind} do not fit ({error})") from None
    raise InputError(f"schedule: unknown kind {kind!r}; choose linear, cosine or explicit")
