r"""DiffPath: how the predicted noise changes along the path from a sample to noise, against the training data's.

.. math::
    \varepsilon_k = \hat\varepsilon(x_{t_k}, t_k), \qquad
    \dot\varepsilon_k = n\, (\varepsilon_{k+1} - \varepsilon_k), \qquad
    D = \sqrt{\sum_k \lVert \dot\varepsilon_k \rVert^2}

over the n timesteps of DDIM's inversion of the sample (Heng et al. 2024, arXiv 2405.11881, as in their released code).
The 1-D detector is minus the log density of D under a kernel estimate of the training data's; the 6-D one that of
:math:`\sum \varepsilon, \sum \varepsilon^2, \sum \varepsilon^3` and the same of :math:`\dot\varepsilon` (sums over
timesteps and dimensions), each divided by its standard deviation, under a mixture of Gaussians. One evaluation a
timestep.

There the 1-D kernel is 5 wide, in the units of their images; here Scott's rule sets it. There the mixture's number of
components (50 or 100) and kind of covariance are chosen by cross-validation; here 50 with whole covariances.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect import AtTimesteps, StepWindow, as_scores, fit_batches, refuse_unfitted
from intermode.errors import InputError
from intermode.noise import draws
from intermode.ode import follow
from intermode.schedules import Schedule

__all__ = ["DiffPath", "path_statistics"]


@torch.no_grad()
def path_statistics(denoiser: Denoiser, x: Tensor, timesteps: Sequence[int], **condition: Any) -> Tensor:
    """(B, 6) float64 sums of eps, eps², eps³ and of the same of its rate of change, along the path of x (B, ...)."""
    schedule = denoiser.schedule
    sums = torch.zeros((len(x), 6), dtype=torch.float64, device=x.device)
    last: Tensor | None = None
    # the last timestep twice: its prediction is wanted, a further step is not
    path = (*timesteps, timesteps[-1])
    for step in follow(denoiser, schedule.level(timesteps[0])[0] * x, path, **condition):
        a, s = schedule.level(step.t)
        eps = ((step.x_t - a * step.x0_hat) / s).to(torch.float64).flatten(1)
        sums[:, :3] += torch.stack([(eps**p).sum(1) for p in (1, 2, 3)], dim=1)
        if last is not None:
            rate = len(timesteps) * (eps - last)
            sums[:, 3:] += torch.stack([(rate**p).sum(1) for p in (1, 2, 3)], dim=1)
        last = eps
    return sums


class DiffPath(AtTimesteps):
    """Minus the log density of a path's statistics among the training data's, in nats; to be fitted.

    Args:
        timesteps: of the inversion, rising.
        statistics: 1 (the path's total rate of change) or 6.
        components: of the mixture that is fitted to 6 statistics.
        window, count: instead of ``timesteps``: so many, spread evenly over a pair of timesteps or a range of SNR.

    Raises:
        InputError: fewer than two timesteps, no components, or another number of statistics.
    """

    def __init__(
        self,
        timesteps: Sequence[int] | None = None,
        statistics: Literal[1, 6] = 1,
        components: int = 50,
        *,
        window: StepWindow | tuple[int, int] | None = None,
        count: int | None = None,
    ) -> None:
        super().__init__(timesteps, window, count, least=2)
        self.timesteps = tuple(sorted(self.timesteps))
        if statistics not in (1, 6):
            raise InputError(f"statistics: {statistics} must be 1 or 6")
        if components < 1:
            raise InputError(f"components: {components} must be at least 1")
        self.statistics, self.components = statistics, components
        self.name = "diffpath" if statistics == 1 else "diffpath-6d"
        self._density: Any = None

    @property
    def nfe(self) -> int:
        return self.count

    def fit(self, denoiser: Denoiser, data: Tensor, *, seed: int = 0, **condition: Any) -> None:
        """The density of the statistics of training data (n, ...); ``seed`` is of the mixture's first guess.

        Raises:
            InputError: too few data for the density, or data whose path is not finite.
        """
        from sklearn.mixture import GaussianMixture
        from sklearn.neighbors import KernelDensity
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        batches = fit_batches(data, 2 if self.statistics == 1 else max(2, self.components))
        found = np.concatenate([self._of(denoiser, batch.to(denoiser.device), condition) for batch in batches])
        if not np.isfinite(found).all():
            raise InputError("data: the path of a training sample is not finite")
        if self.statistics == 1:
            # relative to the density itself: the tree may stop early, a score's fourth digit decides nothing
            density: Any = KernelDensity(bandwidth="scott", rtol=1e-4)
        else:
            density = GaussianMixture(self.components, random_state=int(draws(seed, "probe").integers(2**32)))
        self._density = make_pipeline(StandardScaler(), density).fit(found)

    def check(self, schedule: Schedule) -> None:
        super().check(schedule)
        if self._density is None:
            raise refuse_unfitted(self.name)

    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], **condition: Any) -> Tensor:
        if self._density is None:
            raise refuse_unfitted(self.name)
        found = self._of(denoiser, x, condition)
        scores = np.full(len(x), np.inf)
        finite = np.isfinite(found).all(1)  # the library refuses what is not
        if finite.any():
            scores[finite] = -self._density.score_samples(found[finite])
        return as_scores(torch.from_numpy(scores).to(x.device), x)

    def _of(self, denoiser: Denoiser, x: Tensor, condition: dict[str, Any]) -> np.ndarray:
        """(B, statistics) of the path of x (B, ...)."""
        sums = path_statistics(denoiser, x, self.at(denoiser.schedule), **condition).cpu().numpy()
        return np.sqrt(sums[:, 4:5]) if self.statistics == 1 else sums
