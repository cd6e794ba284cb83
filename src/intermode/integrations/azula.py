r"""A denoiser of azula as one of ours, for all samplers and detectors here.

azula counts time from 0 (data) to 1 (noise) and lets its schedule give :math:`(\alpha_t, \sigma_t)` of
:math:`x_t = \alpha_t x_0 + \sigma_t \varepsilon`; its denoiser is called with (x_t, t) and returns a posterior whose
``mean`` is :math:`\hat x_0`. Timestep k = 0..T-1 here is its time :math:`(k + 1) / T`.

.. code-block:: python

    from intermode.integrations.azula import AzulaDenoiser

    denoiser = AzulaDenoiser(azula.denoise.KarrasDenoiser(backbone, schedule), shape=(1,))
    samples = intermode.sample(denoiser, 8, sampler=intermode.DDIM(), detectors=intermode.Hal(0, 15))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from intermode.denoisers import Denoiser, digest
from intermode.schedules import Schedule

__all__ = ["AzulaDenoiser"]


class AzulaDenoiser(Denoiser):
    """A denoiser of azula.

    Args:
        denoiser: an ``azula.denoise.Denoiser``, or whatever has ``schedule(t)`` and is called with (x_t, t) as it is.
        timesteps: T, the number of times that its continuous schedule is cut into.
        shape: of one sample, which azula does not say; needed for sampling.

    Raises:
        InputError: a schedule whose signal or noise is 0 at one of them, or float32 cannot hold.
    """

    def __init__(self, denoiser: Any, timesteps: int = 1000, *, shape: Sequence[int] | None = None) -> None:
        self.denoiser = denoiser
        self._shape = None if shape is None else tuple(shape)
        times = torch.arange(1, timesteps + 1, dtype=torch.float64) / timesteps
        self._times = torch.cat([times, torch.zeros(1)])  # CLEAN, -1, comes last
        signal, noise = (level.expand(timesteps).cpu().numpy() for level in denoiser.schedule(times))
        self.schedule = Schedule(signal, noise)
        self.schedule.check_float32()
        self._parameter = next(iter(denoiser.parameters()), None) if hasattr(denoiser, "parameters") else None

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self._parameter is None else self._parameter.dtype

    @property
    def device(self) -> torch.device:
        return torch.device("cpu") if self._parameter is None else self._parameter.device

    @property
    def shape(self) -> tuple[int, ...]:
        return super().shape if self._shape is None else self._shape

    @property
    def identity(self) -> dict[str, str]:
        if not hasattr(self.denoiser, "state_dict"):
            return super().identity
        state = self.denoiser.state_dict()
        return super().identity | {"weights": digest([state[name].cpu().numpy() for name in sorted(state)])}

    def __call__(self, x_t: Tensor, t: int | Tensor, **condition: Any) -> Tensor:
        self.schedule.level_like(t, x_t)  # refuses timesteps that do not exist
        time = self._times[t.cpu() if isinstance(t, Tensor) else t].to(x_t.device, x_t.dtype)
        mean: Tensor = self.denoiser(x_t, time, **condition).mean
        return mean
