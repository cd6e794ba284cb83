r"""Mixtures of isotropic Gaussians in d dimensions, and everything about them in closed form.

.. math::
    p(x) = \sum_k w_k\, \mathcal N(x;\, \mu_k, \sigma_k^2 I)

The forward process maps a mixture to a mixture: :math:`x_t = a x_0 + s \varepsilon` has means
:math:`a\mu_k` and variances :math:`v_k = a^2\sigma_k^2 + s^2`. With the responsibilities
:math:`r_k(x) \propto w_k \mathcal N(x; a\mu_k, v_k I)`,

.. math::
    \nabla \log p_t(x) = \sum_k r_k \frac{a\mu_k - x}{v_k}, \qquad
    \mathbb E[x_0 \mid x_t = x] = \sum_k r_k m_k, \quad m_k = \mu_k + \frac{a\sigma_k^2}{v_k}(x - a\mu_k),

    \mathrm{Cov}[x_0 \mid x_t = x] = \sum_k r_k \Bigl(\frac{s^2\sigma_k^2}{v_k} I
        + (m_k - \bar m)(m_k - \bar m)^\top\Bigr), \quad \bar m = \mathbb E[x_0 \mid x_t = x].

A sample is a hallucination when it is farther than kσ from every mode (paper, section 5.2: k = 6). Mode
interpolation puts it between two of them: here, within kσ of the open segment that joins two modes; of
several such segments the shortest counts.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from intermode.errors import InputError
from intermode.noise import draws
from intermode.targets import Labels
from intermode.values import as_numbers, as_whole

__all__ = ["GaussianMixture", "MixtureLabels", "line"]

SAMPLE_BLOCK = 4096
"""Consecutive samples of a draw that share a generator: a draw of n is the start of a draw of 2n."""


@dataclass(frozen=True)
class MixtureLabels(Labels):
    """Labels of a Gaussian mixture.

    ``rule`` is one of ``in-support``, ``between`` (two modes), ``outside`` (off the support but between no
    two modes) and ``diverged`` (not finite).

    Attributes:
        nearest: (n,) int, index of the mode at the smallest distance in σ; -1 if diverged.
        distance: (n,) float64, that distance in units of the mode's σ; inf if diverged.
        between: (n, 2) int, the two modes between which the sample lies; -1 where there are none.
    """

    nearest: np.ndarray
    distance: np.ndarray
    between: np.ndarray


@dataclass(frozen=True, init=False, eq=False, repr=False)
class GaussianMixture:
    """A mixture of K isotropic Gaussians in d dimensions.

    Arrays, lists, tensors and single numbers are taken; the attributes are float64 arrays. Two mixtures of the same
    numbers are equal.

    Args:
        means: (K, d); (K,) is a mixture on a line, a single number its only mode.
        sigma: (K,) standard deviation of each component, or one for all.
        weights: (K,) summing to 1; None weighs all alike.
        beyond: k, a sample farther than kσ from every mode is a hallucination.

    Raises:
        InputError: no numbers, shapes that do not fit, σ <= 0, weights that are negative or do not sum to 1, k <= 0.
    """

    means: np.ndarray
    sigma: np.ndarray
    weights: np.ndarray
    beyond: float

    def __init__(
        self, means: ArrayLike | Tensor, sigma: ArrayLike | Tensor, weights: Any = None, beyond: float = 6.0
    ) -> None:
        centres, widths = as_numbers("means", means), as_numbers("sigma", sigma)
        if centres.ndim < 2:
            centres = centres.reshape(-1, 1)
        if centres.ndim != 2 or centres.size == 0 or not np.isfinite(centres).all():
            raise InputError("means: must be finite numbers of shape (modes, dimensions), at least one mode")
        modes = len(centres)
        if widths.shape == ():
            widths = np.full(modes, widths)
        if widths.shape != (modes,) or not ((widths > 0) & np.isfinite(widths)).all():
            raise InputError("sigma: must be > 0, one value for all modes or one for each")
        shares = np.full(modes, 1 / modes) if weights is None else as_numbers("weights", weights)
        if shares.shape != (modes,) or not (shares >= 0).all():
            raise InputError(f"weights: must be {modes} numbers >= 0, one for each mode")
        if abs(shares.sum() - 1) > 1e-6:
            raise InputError(f"weights: sum to {shares.sum():g}; they must sum to 1")
        if abs(shares.sum() - 1) > 1e-9:
            shares /= shares.sum()  # float32 gives no better
        radius = as_numbers("beyond", beyond)
        if radius.shape != () or not radius > 0:
            raise InputError(f"beyond: {beyond} must be a number > 0 (in units of sigma)")
        for name, value in (("means", centres), ("sigma", widths), ("weights", shares), ("beyond", float(radius))):
            object.__setattr__(self, name, value)

    def _key(self) -> tuple[Any, ...]:
        arrays = (self.means, self.sigma, self.weights)
        return self.means.shape, *((array + 0.0).tobytes() for array in arrays), self.beyond  # -0.0 becomes 0.0

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, GaussianMixture) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        modes, dimensions = self.means.shape
        if self.means.size > 12:
            widths = " to ".join(f"{width:.3g}" for width in sorted({self.sigma.min(), self.sigma.max()}))
            return f"<GaussianMixture of {modes} modes in {dimensions}-D, sigma {widths}, beyond {self.beyond:g}>"
        alike = np.ptp(self.sigma) == 0
        parts = [repr(self.means.tolist()), repr(float(self.sigma[0]) if alike else self.sigma.tolist())]
        if (self.weights != 1 / modes).any():
            parts.append(repr(self.weights.tolist()))
        return f"GaussianMixture({', '.join(parts)}, beyond={self.beyond!r})"

    @property
    def shape(self) -> tuple[int, ...]:
        """(d,)"""
        return (self.means.shape[1],)

    def sample(self, n: int, seed: int) -> Tensor:
        """(n, d) float32 draws; sample i depends on (seed, i) alone.

        Raises:
            InputError: n < 1.
        """
        n = as_whole("n", n, 1)
        blocks = []
        for block in range(math.ceil(n / SAMPLE_BLOCK)):
            rng = draws(seed, "data", block)
            mode = rng.choice(len(self.means), size=SAMPLE_BLOCK, p=self.weights)
            eps = rng.standard_normal((SAMPLE_BLOCK, self.means.shape[1]))
            blocks.append(self.means[mode] + self.sigma[mode, None] * eps)
        return torch.from_numpy(np.concatenate(blocks)[:n].astype(np.float32))

    def noised(self, signal: float, noise: float) -> GaussianMixture:
        """The law of x_t = signal * x_0 + noise * eps, again a mixture."""
        sigma = np.sqrt((signal * self.sigma) ** 2 + noise**2)
        return GaussianMixture(signal * self.means, sigma, self.weights, self.beyond)

    def _rows(self, x: Any) -> Any:
        """An array or tensor as (n, d)."""
        rows = x.reshape(-1, 1) if x.ndim < 2 and self.shape == (1,) else x
        if rows.ndim != 2 or tuple(rows.shape[1:]) != self.shape:
            raise InputError(f"samples: shape {tuple(x.shape)} does not fit; must be (n, {self.shape[0]})")
        return rows

    def _tensor(self, x: ArrayLike | Tensor) -> Tensor:
        return self._rows(x) if isinstance(x, Tensor) else torch.from_numpy(self._rows(as_numbers("samples", x)))

    def _log_components(self, x: Tensor, signal: float, noise: float) -> tuple[Tensor, Tensor, Tensor]:
        """Log of the K weighted densities of x_t at x (B, K), with (K, d) means and (K,) variances."""
        means = torch.as_tensor(signal * self.means, dtype=x.dtype, device=x.device)
        variance = torch.as_tensor((signal * self.sigma) ** 2 + noise**2, dtype=x.dtype, device=x.device)
        weights = torch.as_tensor(self.weights, dtype=x.dtype, device=x.device)
        square = sum((x[:, i, None] - means[:, i]) ** 2 for i in range(x.shape[1]))
        normal = -0.5 * (square / variance + x.shape[1] * torch.log(2 * math.pi * variance))
        return torch.log(weights) + normal, means, variance

    def log_prob(self, x: ArrayLike | Tensor) -> Tensor:
        """(B,) log density at x (B, d), in the dtype of a tensor x."""
        return torch.logsumexp(self._log_components(self._tensor(x), 1.0, 0.0)[0], dim=1)

    def score(self, x: ArrayLike | Tensor) -> Tensor:
        """(B, d) gradient of the log density at x (B, d); of x_t: ``noised(a, s).score(x)``."""
        x = self._tensor(x)
        log_components, means, variance = self._log_components(x, 1.0, 0.0)
        weighted = torch.softmax(log_components, dim=1) / variance
        return weighted @ means - weighted.sum(1, keepdim=True) * x

    def posterior_mean(self, x_t: ArrayLike | Tensor, signal: float, noise: float) -> Tensor:
        """(B, d) E[x_0 | x_t] for x_t = signal * x_0 + noise * eps; the ideal x0_hat."""
        x_t = self._tensor(x_t)
        log_components, _, variance = self._log_components(x_t, signal, noise)
        responsibility = torch.softmax(log_components, dim=1)
        means = torch.as_tensor(self.means, dtype=x_t.dtype, device=x_t.device)
        sigma = torch.as_tensor(self.sigma, dtype=x_t.dtype, device=x_t.device)
        pull = signal * sigma**2 / variance
        centre = responsibility @ (means * (1 - pull * signal)[:, None])
        return centre + (responsibility @ pull)[:, None] * x_t

    def posterior_covariance(self, x_t: ArrayLike | Tensor, signal: float, noise: float) -> Tensor:
        """(B, d, d) Cov[x_0 | x_t]: the spread within the modes and, between them, of where each would put x_0."""
        x_t = self._tensor(x_t)
        log_components, scaled, variance = self._log_components(x_t, signal, noise)
        responsibility = torch.softmax(log_components, dim=1)
        sigma = torch.as_tensor(self.sigma, dtype=x_t.dtype, device=x_t.device)
        pull = signal * sigma**2 / variance
        of_mode = scaled / signal + pull[:, None] * (x_t[:, None] - scaled)  # (B, K, d) E[x_0 | x_t, mode]
        apart = of_mode - self.posterior_mean(x_t, signal, noise)[:, None]
        within = responsibility @ (noise**2 * sigma**2 / variance)
        between = torch.einsum("bk,bki,bkj->bij", responsibility, apart, apart)
        return between + within[:, None, None] * torch.eye(x_t.shape[1], dtype=x_t.dtype, device=x_t.device)

    @cached_property
    def pairs(self) -> np.ndarray:
        """(P, 2) int, all pairs of modes at different places, the closest first."""
        pairs = np.array(list(itertools.combinations(range(len(self.means)), 2)), dtype=int).reshape(-1, 2)
        lengths = np.linalg.norm(self.means[pairs[:, 0]] - self.means[pairs[:, 1]], axis=1)
        ordered = np.lexsort((pairs[:, 1], pairs[:, 0], lengths.round(9)))
        return pairs[ordered[lengths[ordered] > 0]]  # between two modes at one place there is nothing

    def segment_distance(self, x: np.ndarray, pair: np.ndarray) -> np.ndarray:
        """(n,) distance of x (n, d) to the open segment between two modes; inf beyond its ends."""
        i, j = pair
        along = self.means[j] - self.means[i]
        offset = x - self.means[i]
        share = offset @ along / (along @ along)
        gap = np.sqrt(sum((offset[:, d] - share * along[d]) ** 2 for d in range(x.shape[1])))
        return np.where((share > 0) & (share < 1), gap, np.inf)

    def between(self, x: np.ndarray, within: float) -> np.ndarray:
        """(n, 2) the closest pair of modes on whose open segment x (n, d) lies, ``within`` σ of it; else -1."""
        found = np.full((len(x), 2), -1)
        open_rows = np.arange(len(x))
        for pair in self.pairs:
            if not len(open_rows):
                break
            hit = self.segment_distance(x[open_rows], pair) <= within * self.sigma[pair].max()
            found[open_rows[hit]] = pair
            open_rows = open_rows[~hit]
        return found

    def label(self, x: ArrayLike | Tensor) -> MixtureLabels:
        """Labels of samples (n, d), on a line also (n,); one that is not finite is hallucinated, rule ``diverged``.

        Raises:
            InputError: samples of another width, or no numbers.
        """
        points = self._rows(as_numbers("samples", x))
        n = len(points)
        nearest = np.empty(n, dtype=int)
        distance = np.empty(n)
        for begin in range(0, n, 65536):
            rows = slice(begin, begin + 65536)
            square = sum((points[rows, i, None] - self.means[:, i]) ** 2 for i in range(points.shape[1]))
            scaled = np.where(np.isfinite(square), np.sqrt(square) / self.sigma, np.inf)
            nearest[rows] = scaled.argmin(1)
            distance[rows] = scaled.min(1)
        diverged = ~np.isfinite(points).all(1)
        distance[diverged] = np.inf
        nearest[diverged] = -1
        hallucinated = distance > self.beyond
        between = np.full((n, 2), -1)
        off = hallucinated & ~diverged
        between[off] = self.between(points[off], self.beyond)
        rule = np.full(n, "in-support", dtype="<U10")
        rule[hallucinated] = "outside"
        rule[between[:, 0] >= 0] = "between"
        rule[diverged] = "diverged"
        return MixtureLabels(hallucinated, rule, nearest, distance, between)


def line(
    means: ArrayLike | Tensor = (1, 2, 3),
    sigma: ArrayLike | Tensor = 0.05,
    weights: ArrayLike | Tensor | None = None,
    *,
    beyond: float = 6.0,
) -> GaussianMixture:
    """The paper's 1-D mixtures (section 4.1): modes at ``means``, equal weights unless given.

    Raises:
        InputError: means that are not on a line; and see :class:`GaussianMixture`.
    """
    centres = as_numbers("means", means)
    if centres.size != max(centres.shape, default=1):
        raise InputError(f"means: shape {centres.shape}; must be numbers on a line")
    return GaussianMixture(centres.reshape(-1, 1), sigma, weights, beyond)
