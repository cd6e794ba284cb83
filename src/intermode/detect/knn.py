r"""Distance to the training data, in the space of a feature extractor f. No network evaluation.

.. math::
    \mathrm{kNN}(x) = \lVert f(x) - \mathrm{NN}_k(x) \rVert, \qquad
    \mathrm{Realism}(x)^{-1} = \min_r \frac{\lVert f(x) - f_r \rVert}{\lVert f_r - \mathrm{NN}_k(f_r) \rVert}

the distance to the k-th nearest training sample (Sun et al. 2022 with features of a classifier), and the inverse of the
realism score (Kynkäänniemi et al. 2019, eq. 3): how many radii away the nearest ball is that reaches from a training
sample to its own k-th neighbour, where the half of the balls with the larger radii is left out. Under 1 means inside a
ball. The original has k = 3 and features of VGG-16 or Inception; here they are given, or else the sample itself.

For a mixture whose modes are dense in the training data both are close to an oracle: they need the data, and say what
one can know with them and without the model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from intermode.denoisers import Denoiser
from intermode.detect import Features, as_scores, fit_batches, flat, refuse_unfitted
from intermode.errors import InputError
from intermode.schedules import Schedule

__all__ = ["KNN", "Realism"]

BLOCK_NUMBERS = 2**22
"""Distances held at once."""


class _Neighbours:
    """What both scores share: the training data's features and a search among them."""

    name: str
    nfe = 0

    def __init__(self, k: int, features: Features) -> None:
        if k < 1:
            raise InputError(f"k: {k} must be at least 1")
        self.k, self.features = k, features
        self._search: Any = None

    def fit(self, denoiser: Denoiser, data: Tensor, *, seed: int = 0, **condition: Any) -> None:
        """Keep the features of training data (n, ...).

        Raises:
            InputError: no more than k samples.
        """
        from sklearn.neighbors import NearestNeighbors

        found = torch.cat([self._of(batch.to(denoiser.device)) for batch in fit_batches(data, self.k + 1)])
        self._search = NearestNeighbors(n_neighbors=self.k).fit(found.cpu().numpy())

    def check(self, schedule: Schedule) -> None:
        """Any schedule will do."""
        if self._search is None:
            raise refuse_unfitted(self.name)

    @torch.no_grad()
    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Callable[[], Tensor], **condition: Any) -> Tensor:
        if self._search is None:
            raise refuse_unfitted(self.name)
        found = self._of(x).cpu()
        finite = torch.isfinite(found).all(1)  # the library refuses what is not
        scores = torch.full((len(x),), torch.inf, dtype=torch.float64)
        if finite.any():
            scores[finite] = self._score(found[finite])
        return as_scores(scores.to(x.device), x)

    def _of(self, x: Tensor) -> Tensor:
        """(B, F) float64 features of x (B, ...)."""
        return self.features(x).to(torch.float64)

    def _score(self, features: Tensor) -> Tensor:
        raise NotImplementedError  # both scores define it


class KNN(_Neighbours):
    """Distance to the k-th nearest training sample, in units of the features; to be fitted.

    Args:
        k: which neighbour.
        features: extractor of the space in which distances are taken.

    Raises:
        InputError: k < 1.
    """

    name = "knn"

    def __init__(self, k: int = 5, features: Features = flat) -> None:
        super().__init__(k, features)

    def _score(self, features: Tensor) -> Tensor:
        distances, _ = self._search.kneighbors(features.numpy())
        return torch.from_numpy(distances[:, -1])


class Realism(_Neighbours):
    """Radii to the nearest ball of a training sample, 1 on its surface; to be fitted.

    Args:
        k: a ball reaches to its centre's k-th neighbour.
        features: extractor of the space in which distances are taken.

    Raises:
        InputError: k < 1.
    """

    name = "realism"

    def __init__(self, k: int = 3, features: Features = flat) -> None:
        super().__init__(k, features)

    def fit(self, denoiser: Denoiser, data: Tensor, *, seed: int = 0, **condition: Any) -> None:
        """Keep the smaller half of the balls around training data (n, ...).

        Raises:
            InputError: no more than k samples.
        """
        super().fit(denoiser, data, seed=seed, **condition)
        distances, _ = self._search.kneighbors()  # of the data among themselves, each without itself
        radius = torch.from_numpy(distances[:, -1])
        small = radius <= radius.median()
        self._centre, self._radius = torch.from_numpy(self._search._fit_X)[small], radius[small]

    def _score(self, features: Tensor) -> Tensor:
        # a centre with radius 0, a training sample that comes more than k times, covers itself alone
        radius = self._radius.clamp(min=torch.finfo(torch.float64).tiny)
        rows = features.split(max(1, BLOCK_NUMBERS // len(radius)))
        # the exact differences: the matrix product's rounding is larger than a small ball
        distance = (torch.cdist(part, self._centre, compute_mode="donot_use_mm_for_euclid_dist") for part in rows)
        return torch.cat([(part / radius).amin(1) for part in distance])
