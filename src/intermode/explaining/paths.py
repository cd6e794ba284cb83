r"""How x0_hat came to a sample: recorded by a run, or found by noising the finished sample again.

With :math:`x_t = a_t x + s_t \varepsilon_k` the prediction :math:`\hat x_0(x_t, t)` is where the chain would be heading
if it were at t and on its way to x. How far that is from x itself,

.. math::
    D(t) = \operatorname{median}_k\, \lVert \hat x_0(a_t x + s_t \varepsilon_k, t) - x \rVert,

is small at low noise and grows where x is not yet decided (a mean would follow the few noises at which a learned
denoiser runs away). It *moves* between the t under which D stays below a tenth
of its largest value, and the t from which it has nine tenths of it. Of a recorded chain there is one x0_hat at each t.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.progress import Task
from intermode.schedules import Schedule

__all__ = ["Path", "levels_of", "renoised"]

LEVELS = 24
FAINTEST_SNR = 1e-3
"""Of the last level looked at: beyond it x0_hat is the mean of the data."""
BEGUN, DONE = 0.1, 0.9


@dataclass(frozen=True)
class Path:
    """x0_hat on its way to a sample.

    Attributes:
        timesteps: (K,) falling.
        x0_hat: (K, noises, *shape); one noise where it was recorded.
        away: (K,) its distance from the finished sample, the median over the noises.
        recorded: whether a run recorded it, or the sample was noised again.
    """

    timesteps: np.ndarray
    x0_hat: np.ndarray
    away: np.ndarray
    recorded: bool

    @classmethod
    def of(cls, timesteps: np.ndarray, x0_hat: np.ndarray, x: np.ndarray, recorded: bool) -> Path:
        """That of a sample x (*shape)."""
        square = (np.asarray(x0_hat, np.float64) - x) ** 2
        axes = tuple(range(2, square.ndim))
        # as distances are measured: a length, and of images a root mean square over the pixels
        each = square.mean(axes) if x.ndim > 1 else square.sum(axes)
        return cls(np.asarray(timesteps), x0_hat, np.median(np.sqrt(each), axis=1), recorded)

    @property
    def moved(self) -> tuple[int, int] | None:
        """The timesteps between which it moved, the lower first; None if it never did."""
        rising = np.maximum.accumulate(self.away[::-1])
        if not rising[-1] > 0:
            return None
        low, high = (int(np.argmax(rising >= share * rising[-1])) for share in (BEGUN, DONE))
        timesteps = self.timesteps[::-1]
        return int(timesteps[low]), int(timesteps[high])


def levels_of(schedule: Schedule) -> list[int]:
    """Timesteps, falling, spread evenly over the log of the signal-to-noise ratio."""
    log_snr = 2 * np.log(schedule.signal / schedule.noise)
    last = max(int(np.flatnonzero(log_snr >= np.log(FAINTEST_SNR)).max(initial=1)), 1)
    wanted = np.linspace(log_snr[0], log_snr[last], LEVELS)
    found = {int(np.argmin(np.abs(log_snr - one))) for one in wanted}
    return sorted(found, reverse=True)


@torch.no_grad()
def renoised(
    denoiser: Denoiser,
    x: Tensor,
    timesteps: Sequence[int],
    noise: Callable[[], Tensor],
    noises: int,
    condition: dict[str, Any],
    task: Task,
) -> np.ndarray:
    """(K, noises, *shape) x0_hat of a sample x (1, *shape), noised to each level by the same noises.

    Args:
        noise: gives one of these (1, *shape) at each call.
        condition: what the denoiser is told of this sample.
        task: advanced by the noises.
    """
    eps = torch.cat([noise() for _ in range(noises)])
    told = {k: v.expand(noises, *v.shape[1:]) if isinstance(v, Tensor) else v for k, v in condition.items()}
    found = []
    for t in timesteps:
        x_t = denoiser.schedule.add_noise(x.expand(noises, *x.shape[1:]), eps, t)
        found.append(denoiser(x_t, t, **told).cpu().numpy())
        task.advance(noises)
    return np.stack(found)
