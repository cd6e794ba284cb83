r"""Critical windows: the noise levels at which it is decided what a sample is, found by restarting finished samples.

The *forward-backward experiment* (Sclocchi et al. 2024, arXiv 2402.16991) noises a finished sample x to a timestep t,
:math:`x_t \sim q(x_t \mid x)`, comes down again by the sampler to y, and asks how much has changed. Over t, features
stay or are drawn anew, each kind in a narrow range, its *critical window* (Li & Chen 2024, arXiv 2403.01633). Given
:math:`x_t` a perfect model draws y as the data drew x, so that the mean change is twice the posterior variance; and
whatever the model is, it falls into parts that detectors look at,

.. math::
    \mathbb E \lVert y - x \rVert^2 =
    \underbrace{\lVert \mathbb E\,\hat x_0 - x \rVert^2}_{\text{bias}} +
    \underbrace{\mathbb E \lVert \hat x_0 - \mathbb E\,\hat x_0 \rVert^2}_{d \cdot \text{Hal}} +
    \underbrace{\mathbb E \lVert y - \hat x_0 \rVert^2}_{\text{what is drawn below } t}

the first two of which are the *residual* :math:`\mathbb E \lVert \hat x_0(x_t, t) - x \rVert^2` (exactly so if the mean
of y given x_t is x0_hat).

**Change.** The mean squared change is told in units of the mean squared distance D of two samples: 1 is to be drawn
anew. A sample *has changed*

* of a few numbers: if it moved farther than noise explains. Within a mode the squared change follows about
  :math:`c\,\chi^2_\nu`; c and ν are fitted to the 16 % and 50 % quantiles of what has not jumped, and jumps are what
  lies beyond the quantile that is exceeded once in a million, from the lowest level on upwards, where the limit of the
  level before says what has not. On mixtures this counts changes of mode (tests).
* of images: if the squared change exceeds D / 4. Images have details at all scales, and shift by a pixel long before
  anything in them is decided; what counts as another image is a choice, which ``scale`` makes.

**Windows.** The share of changed samples rises from one plateau to the next, once for each kind of decision. Of a
rise from share p to q, *critical* are the levels where 15 to 45 % of it have happened; *below* it lie those where less
than 1 % of all samples have changed more than on the plateau, down to 16 times their signal-to-noise ratio. Errors of
two kinds are seen so far. Where what is decided is clear to the denoiser, an error stands out below the edge and
nowhere else (mass between modes, in one and two dimensions); where an error is a decision made badly (two shapes of a
kind), the denoiser finishes it as it finds it below, and disagrees only while it is being decided. No one range serves
both, so detectors look at both and take the larger of their standardised scores (:mod:`intermode.detect.critical`): in
a range that is of no use an error scores as good samples do, and costs little. The shares 15, 45 and 1 % were set by
looking at labelled samples of the shipped models gaussian-1d, grid and shapes; for another model nothing is set by
labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import optimize, stats
from sklearn.isotonic import isotonic_regression
from torch import Tensor

from intermode.blocks import Plan
from intermode.denoisers import Denoiser
from intermode.detect import Features, flat
from intermode.detect.window import Window
from intermode.errors import InputError
from intermode.evaluation import Estimate, share
from intermode.files import write_json
from intermode.models import as_denoiser
from intermode.noise import NoiseStream, draws
from intermode.progress import Progress
from intermode.samplers import Ancestral, Sampler
from intermode.sampling import as_condition, check_classes, even_chunk, generate
from intermode.schedules import Schedule
from intermode.values import as_whole
from intermode.verbs import as_samples, shown, strict

__all__ = ["CriticalWindows", "Kind", "Rise", "Trial", "critical_windows"]

COARSE, FINE = 10, 8
"""Levels looked at first, and those added where the share of changed samples rises most."""
CLEAREST_SNR, FAINTEST_SNR = 1e4, 1e-3
"""Between them the coarse levels are spread."""
SMALLEST_STEP = 0.15
"""Of arcsin(sqrt(share)), whose standard error is 1 / (2 sqrt(n)) at every share: smaller rises are not refined."""
BEGUN, CRITICAL = 0.01, (0.15, 0.45)
BELOW_SNR = 16.0
FLAT_SHARE, FLAT_SNR, SMALLEST_RISE = 0.05, 4.0, 0.1
"""A plateau: less than that share changes over that factor of the signal-to-noise ratio. Smaller rises are none."""
ONCE_IN, REFITS, FEWEST = 1e-6, 4, 20
SEPARATE = 0.25
"""Of the mean squared distance of two images: what has moved farther is another image."""
PATCHES = 8
"""Rows and columns of patches of an image."""
RESAMPLES = 400


@dataclass(frozen=True)
class Kind:
    """What becomes of one kind of samples, with the labels of a target.

    Attributes:
        count: how many there are.
        bad: for each level the share that is hallucinated after a restart: of a kind of errors those that stay bad, of
            the good (``in-support``) those that turn bad.
    """

    count: int
    bad: tuple[Estimate, ...]


@dataclass(frozen=True)
class Rise:
    """One range of decisions.

    Attributes:
        below: levels under it, at which nothing of it is open; None if there are none.
        window: the critical one.
        edge, low, high: last timestep of ``below``, first and last of ``window``, with intervals.
    """

    below: Window | None
    window: Window
    edge: Estimate | None
    low: Estimate
    high: Estimate


@dataclass(frozen=True, repr=False)
class CriticalWindows:
    """What a forward-backward experiment found, at levels (L) that rise.

    Attributes:
        levels: (L,) timesteps.
        snr: (L,) signal-to-noise ratios a_t^2 / s_t^2.
        changed: (L,) share of the samples that changed.
        moved: (L,) mean squared change, in units of the mean squared distance of two samples.
        features: (L,) the same in the space of the features; empty without any.
        patches: (L, rows, columns) the same in each patch of an image; None for samples of a few numbers.
        kinds: with labels, what becomes of each kind, by name.
        rises: where things are decided, from low noise to high.
        evaluations: of the network, in all.
        x: (n, *shape) the finished samples.
    """

    levels: tuple[int, ...]
    snr: tuple[float, ...]
    changed: tuple[Estimate, ...]
    moved: tuple[Estimate, ...]
    features: tuple[Estimate, ...]
    patches: np.ndarray | None
    kinds: Mapping[str, Kind]
    rises: tuple[Rise, ...]
    evaluations: int
    x: Tensor = field(repr=False)

    @property
    def windows(self) -> tuple[Window, ...]:
        """Where a detector has to look, from low noise to high: below each rise, and in it."""
        return tuple(w for rise in self.rises for w in (rise.below, rise.window) if w is not None)

    def __repr__(self) -> str:
        told = [f"{self.evaluations:,} evaluations for {len(self.x):,} samples at {len(self.levels)} levels"]
        told += [f"{'t':>6} {'SNR':>9}  changed [95 % interval]    moved"]
        for t, snr, changed, moved in zip(self.levels, self.snr, self.changed, self.moved, strict=True):
            told.append(f"{t:>6} {snr:>9.3g}  {changed!s:<25}  {moved.value:.3g}")
        for kind, found in self.kinds.items():
            stays = ", ".join(f"{t}: {bad.value:.2g}" for t, bad in zip(self.levels, found.bad, strict=True))
            told.append(f"{kind} ({found.count:,}), share that is bad after a restart from t: {stays}")
        for rise in self.rises:
            below = f"; decided below {rise.edge}, t = {rise.below}" if rise.below else ""
            told.append(f"critical: t = {rise.window} (from {rise.low} to {rise.high}){below}")
        return "\n".join(told if self.rises else [*told, "critical: none; the share of changed samples does not rise"])

    @classmethod
    def told(cls, facts: Mapping[str, Any]) -> CriticalWindows:
        """What was found, as :func:`dataclasses.asdict` tells it, read from JSON again; without samples and patches."""

        def estimates(rows: Sequence[Mapping[str, Any]]) -> tuple[Estimate, ...]:
            return tuple(Estimate(**row) for row in rows)

        def rise(told: Mapping[str, Any]) -> Rise:
            windows = (None if told[key] is None else Window(**told[key]) for key in ("below", "window"))
            ends = (None if told[key] is None else Estimate(**told[key]) for key in ("edge", "low", "high"))
            return Rise(*windows, *ends)  # type: ignore[arg-type] # as they were

        return cls(
            tuple(facts["levels"]),
            tuple(facts["snr"]),
            estimates(facts["changed"]),
            estimates(facts["moved"]),
            estimates(facts.get("features", ())),
            None,
            {kind: Kind(each["count"], estimates(each["bad"])) for kind, each in facts["kinds"].items()},
            tuple(map(rise, facts["rises"])),
            facts["evaluations"],
            torch.empty(0),
        )

    def save(self, folder: Path | str) -> None:
        """Write ``windows.json`` and the figure ``windows.png`` into a folder."""
        folder = Path(folder)
        told = {key: value for key, value in asdict(replace(self, x=torch.empty(0))).items() if key != "x"}
        patches = None if self.patches is None else self.patches.tolist()
        write_json(folder / "windows.json", {**told, "patches": patches, "samples": len(self.x)})
        self.draw(folder / "windows.png")

    def draw(self, path: Path | str, auroc: Mapping[str, Sequence[Estimate]] | None = None) -> None:
        """Write the figure: the change over t, the windows shaded; beneath it what becomes of each kind, and the AUROC
        of detectors at each level, if there are labels.

        Args:
            path: ends in .png; a .pdf is written beside it.
            auroc: (L,) by the detector's name, or shorter: of the lowest levels.
        """
        from intermode import plots

        panels = [("share, relative change", self._bands({"changed": self.changed, "moved": self.moved}))]
        if self.features:
            panels[0][1].update(self._bands({"moved, features": self.features}))
        if self.kinds:
            panels.append(("bad after a restart", self._bands({k: found.bad for k, found in self.kinds.items()})))
        if auroc:
            panels.append(("AUROC", self._bands(auroc)))
        places = [-math.log10(v) for v in self.snr]
        shaded = [
            (
                label,
                float(np.interp(window.low, self.levels, places)),
                float(np.interp(window.high, self.levels, places)),
            )
            for rise in self.rises
            for label, window in (("below", rise.below), ("critical", rise.window))
            if window is not None
        ]
        plots.levels(Path(path), self.levels, places, panels, shaded)

    def _bands(self, lines: Mapping[str, Sequence[Estimate]]) -> dict[str, Any]:
        return {name: tuple(zip(*(e.triple for e in found), strict=True)) for name, found in lines.items()}


@strict
def critical_windows(
    model: Denoiser | str | Path,
    *,
    x: Any = None,
    n: int | None = None,
    sampler: Sampler | None = None,
    levels: Sequence[int] | None = None,
    scale: float | None = None,
    labels: Any = None,
    features: Features | None = None,
    condition: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> CriticalWindows:
    """Find the noise levels at which it is decided what a sample is, by restarting finished samples. Needs no labels.

    Args:
        model: a denoiser, or what :func:`intermode.load` takes (a folder of a `diffusers` pipeline of a U-Net too).
        x: (n, *shape) finished samples; drawn from the model unless given.
        n: how many to draw; 1,000 of a few numbers and 128 images unless given. With ``x`` as many of the first.
        sampler: how a restart comes down; unless given ``Ancestral()``, for images with 50 steps of small variance.
        levels: timesteps to restart from; unless given 10 spread over the log of the signal-to-noise ratio, and up to
            8 more where the share of changed samples rises. A restart from t costs as many evaluations for each sample
            as the sampler visits timesteps up to t.
        scale: squared change, in units of the data, beyond which a sample counts as changed; see the module for what is
            taken unless it is given.
        labels: a target, for what becomes of each kind of samples; nothing else depends on it.
        features: of samples (B, ...) to (B, F), to measure the change there too.
        condition: what the model is told, as of :func:`intermode.sample`.
        seed: the noise of sample i at a level t belongs to (seed, i, t).
        progress: True shows a bar.

    Raises:
        InputError: samples that do not fit or are not finite, fewer than 20, levels outside the schedule, a scale that
            is not positive, or a model that is told classes without any.
    """
    denoiser = as_denoiser(model)
    image = len(denoiser.shape) > 1
    if x is not None:
        x = as_samples("x", x, denoiser.shape)[:n].to(denoiser.dtype)
    n = len(x) if x is not None else as_whole("n", (128 if image else 1000) if n is None else n, 1)
    if n < 20:
        raise InputError(f"n: {n} samples are too few to see a share rise; must be at least 20")
    if scale is not None and not scale > 0:
        raise InputError(f"scale: {scale} must be positive, a squared change in units of the data")
    told = as_condition(condition, n, denoiser)
    check_classes(denoiser, told)
    chain = sampler or (Ancestral("small", min(50, len(denoiser.schedule))) if image else Ancestral())
    asked = None if levels is None else sorted({as_whole("levels", t, 0) for t in levels})
    for t in asked or ():
        chain.timesteps_from(denoiser.schedule, t)  # refused before anything is drawn
    tell, seed = shown(progress), as_whole("seed", seed, 0)
    chunk = even_chunk(n, denoiser.shape)
    evaluations = 0
    if x is None:
        plan = Plan(n, denoiser.shape, seed, chunk, device=str(denoiser.device))
        x = generate(denoiser, chain, plan, progress=tell, **told).x
        evaluations = n * chain.evaluations(denoiser.schedule)
    if not torch.isfinite(x).all():
        raise InputError(
            f"x: {int((~torch.isfinite(x).flatten(1).all(1)).sum())} samples are not finite; leave them out"
        )
    restarts = _Restarts(denoiser, chain, x, told, chunk, seed, tell)
    trial = Trial(denoiser.schedule, x, restarts, seed, scale, features, labels)
    trial.evaluations += evaluations
    return trial.run(asked)


@dataclass(frozen=True)
class _Restarts:
    """Restarts by a sampler."""

    denoiser: Denoiser
    sampler: Sampler
    x: Tensor
    condition: Mapping[str, Any]
    chunk: int
    seed: int
    progress: Progress

    @torch.no_grad()
    def __call__(self, t: int) -> tuple[Tensor, int]:
        """Every sample restarted from t, and how many evaluations that took."""
        schedule, shape = self.denoiser.schedule, tuple(self.x.shape[1:])
        device, steps = self.denoiser.device, len(self.sampler.timesteps_from(schedule, t))
        parts = []
        with self.progress.task(f"restarting from t = {t}", len(self.x), 0, "samples") as task:
            for first in range(0, len(self.x), self.chunk):
                rows = slice(first, first + self.chunk)
                x = self.x[rows].to(device)
                noise = NoiseStream(
                    self.seed, first, len(x), shape, purpose="renoise", device=device, dtype=x.dtype, restart=t
                )
                own = {k: v[rows].to(device) if isinstance(v, Tensor) else v for k, v in self.condition.items()}
                y = schedule.add_noise(x, noise(), t)
                for step in self.sampler(self.denoiser, y, noise, start=t, **own):
                    y = step.x_next
                parts.append(y.cpu())
                task.advance(len(x))
        return torch.cat(parts), len(self.x) * steps


class Trial:
    """Restarts from some levels, and what came of them.

    Args:
        schedule: of the levels.
        x: (n, *shape) finished samples.
        restarts: of a timestep: what became of each when restarted from there, and how many evaluations that took.
        seed: of the bootstrap.
        scale, features, labels: see :func:`critical_windows`.
    """

    def __init__(
        self,
        schedule: Schedule,
        x: Tensor,
        restarts: Callable[[int], tuple[Tensor, int]],
        seed: int,
        scale: float | None = None,
        features: Features | None = None,
        labels: Any = None,
    ) -> None:
        self.schedule, self.x, self.restarts, self.seed = schedule, x, restarts, seed
        self.features, self.labels = features, labels
        self.image = x.ndim == 4  # n, channels, rows, columns
        self.scale = SEPARATE * _distance(flat(x)) if scale is None and x.ndim > 2 else scale
        self.evaluations = 0
        self.squares: dict[int, np.ndarray] = {}  # (n,) squared changes
        self.seen: dict[int, np.ndarray] = {}  # the same of features
        self.patched: dict[int, np.ndarray] = {}  # (rows, columns)
        self.bad: dict[int, np.ndarray] = {}  # (n,) bool
        self._featured = features(x).double() if features is not None else None

    def run(self, levels: Sequence[int] | None) -> CriticalWindows:
        """Restart from these levels; unless given from coarse ones, and then where the share rises most."""
        for t in _coarse(self.schedule) if levels is None else levels:
            self.restart(t)
        for _ in range(FINE if levels is None else 0):
            if (finer := self.finer()) is None:
                break
            self.restart(finer)
        return self.found()

    @property
    def levels(self) -> list[int]:
        return sorted(self.squares)

    def restart(self, t: int) -> None:
        """Restart every sample from t."""
        y, evaluations = self.restarts(t)
        self.evaluations += evaluations
        moved = (y - self.x.cpu()).double().square()
        self.squares[t] = moved.flatten(1).sum(1).nan_to_num(torch.inf).numpy()
        if self.image:
            self.patched[t] = torch.nn.functional.adaptive_avg_pool2d(moved.sum(1).mean(0)[None], PATCHES)[0].numpy()
        if self._featured is not None:
            assert self.features is not None
            self.seen[t] = (self.features(y).double() - self._featured).square().sum(1).numpy()
        if self.labels is not None:
            self.bad[t] = np.asarray(self.labels.label(y).hallucinated)

    @cached_property
    def kinds(self) -> np.ndarray:
        """(n,) the kind of each sample before restarts."""
        found = self.labels.label(self.x)
        words = np.where(found.hallucinated, "hallucinated", "in-support")
        return np.asarray(getattr(found, "rule", words))

    def changed(self) -> np.ndarray:
        """(L, n) bool."""
        squares = [self.squares[t] for t in self.levels]
        if self.scale is not None:
            return np.stack([each > self.scale for each in squares])
        noise = 1 / _snr(self.schedule)[self.levels]
        limit, grown, found = math.inf, 1.0, []
        for k, each in enumerate(squares):
            # what moves by noise moves no more than in proportion to it; of many degrees of freedom, all of it does
            growth = noise[k] / noise[k - 1] if k else 1.0
            limit = limit * growth if growth > grown else limit
            for _ in range(REFITS):
                stayed = each[each <= limit]
                if len(stayed) >= FEWEST:
                    limit, grown = _explained(stayed)
            found.append(each > limit)
        return np.stack(found)

    def finer(self) -> int | None:
        """The level that halves, in log signal-to-noise ratio, the largest rise between neighbouring ones."""
        snr, levels = _snr(self.schedule), self.levels
        steps = np.diff(np.arcsin(np.sqrt(_rising(self.changed().mean(1)))))
        steps[np.diff(levels) < 2] = 0.0
        k = int(np.argmax(steps))
        if steps[k] < SMALLEST_STEP:
            return None
        t = _nearest(snr, math.sqrt(snr[levels[k]] * snr[levels[k + 1]]))
        return min(max(t, levels[k] + 1), levels[k + 1] - 1)

    def found(self) -> CriticalWindows:
        levels, n = np.array(self.levels), len(self.x)
        changed = self.changed()
        own = _snr(self.schedule)
        snr = own[levels]
        far = _distance(flat(self.x))
        weights = draws(self.seed, "bootstrap").multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
        moved = _relative([self.squares[t] for t in self.levels], far, weights)
        seen = [] if self._featured is None else [self.seen[t] for t in self.levels]
        patches = None
        if self.image:
            # twice the variance of a patch is the mean squared distance of two
            apart = 2 * self.x.cpu().double().var(0).sum(0)[None]
            pooled = torch.nn.functional.adaptive_avg_pool2d(apart, PATCHES)[0].numpy()
            patches = np.stack([self.patched[t] for t in self.levels]) / np.maximum(pooled, 1e-12)
        kinds: dict[str, Kind] = {}
        if self.labels is not None:
            for kind in sorted(set(self.kinds.tolist()), key=lambda word: (word != "in-support", word)):
                here = self.kinds == kind
                count = int(here.sum())
                kinds[kind] = Kind(count, tuple(share(int(self.bad[t][here].sum()), count) for t in self.levels))
        return CriticalWindows(
            tuple(self.levels),
            tuple(snr.tolist()),
            tuple(share(int(row.sum()), n) for row in changed),
            moved,
            _relative(seen, _distance(self._featured), weights) if self._featured is not None else (),
            patches,
            kinds,
            _rises(levels, own, _rising(changed.mean(1)), [_rising(changed @ w) for w in weights], n),
            self.evaluations,
            self.x,
        )


def _snr(schedule: Schedule) -> np.ndarray:
    return (schedule.signal / schedule.noise) ** 2


def _coarse(schedule: Schedule) -> list[int]:
    """Timesteps spread evenly over the log of the signal-to-noise ratio."""
    snr = _snr(schedule)
    ends: Any = np.log(np.clip(snr[[0, -1]], FAINTEST_SNR, CLEAREST_SNR))
    return sorted({_nearest(snr, math.exp(place)) for place in np.linspace(ends[0], ends[1], COARSE)})


def _nearest(snr: np.ndarray, wanted: float) -> int:
    """The timestep of a signal-to-noise ratio."""
    return int(np.argmin(np.abs(np.log(snr / wanted))))


def _distance(x: Tensor) -> float:
    """Mean squared distance of two samples (n, d): twice the sum of variances."""
    return max(float(2 * x.double().var(0).sum()), 1e-300)


def _rising(shares: np.ndarray) -> np.ndarray:
    """The nearest shares that do not fall."""
    return np.asarray(isotonic_regression(shares, y_min=0.0, y_max=1.0))


def _explained(squares: np.ndarray) -> tuple[float, float]:
    """The squared change that noise exceeds once in a million, as c chi2 with ν degrees of freedom fitted to the lower
    half of (n,) changes; and how many times the middle one it is."""
    low, middle = (max(float(np.quantile(squares, q)), 1e-300) for q in (0.16, 0.5))

    def excess(log_degrees: float) -> float:
        expected: Any = stats.chi2.ppf([0.16, 0.5], math.exp(log_degrees))
        return math.log(expected[1] / expected[0]) - math.log(middle / low)

    ends = math.log(0.1), math.log(1e5)  # fewer degrees: a tighter fit says nothing, nor does a wider one
    if excess(ends[0]) <= 0:
        root = ends[0]
    elif excess(ends[1]) >= 0:
        root = ends[1]
    else:
        root = float(optimize.brentq(excess, *ends))
    degrees = math.exp(root)
    grown = float(stats.chi2.isf(ONCE_IN, degrees) / stats.chi2.ppf(0.5, degrees))
    return middle * grown, grown


def _relative(squares: Sequence[np.ndarray], far: float, weights: np.ndarray) -> tuple[Estimate, ...]:
    """Mean squared changes in units of ``far``, with the bootstrap's intervals."""
    found = []
    for each in squares:
        each = np.where(np.isfinite(each), each, far)  # a chain that ran away is drawn anew
        low, high = np.quantile(weights @ each, [0.025, 0.975]) / far
        found.append(Estimate(float(each.mean() / far), float(low), float(high), n=len(each), method="bootstrap"))
    return tuple(found)


def _plateaus(snr: np.ndarray, shares: np.ndarray) -> list[tuple[int, int]]:
    """(first, last) places of the levels between two rises."""
    found, first = [], 0
    while first < len(shares):
        last = int(np.flatnonzero(shares - shares[first] < FLAT_SHARE)[-1])
        apart = min(shares[first], shares[-1] - shares[last]) > FLAT_SHARE
        if apart and snr[first] / snr[last] >= FLAT_SNR:
            found.append((first, last))
            first = last
        first += 1
    return found


def _crossing(levels: np.ndarray, shares: np.ndarray, share: float) -> float:
    """The timestep at which a share that does not fall is reached; the last one if it never is."""
    if share <= shares[0]:
        return float(levels[0])
    if share > shares[-1]:
        return float(levels[-1])
    k = int(np.searchsorted(shares, share))
    part = (share - shares[k - 1]) / (shares[k] - shares[k - 1])
    return float(levels[k - 1] + part * (levels[k] - levels[k - 1]))


def _rises(
    levels: np.ndarray, own: np.ndarray, shares: np.ndarray, resampled: Sequence[np.ndarray], n: int
) -> tuple[Rise, ...]:
    """Where the share rises.

    Args:
        levels: (L,) timesteps.
        own: (T,) signal-to-noise ratio of every timestep.
        shares: (L,) not falling.
        resampled: (L,) likewise, of each resample.
        n: samples.
    """
    plateaus = _plateaus(own[levels], shares)
    bounds = [(None, 0), *plateaus]
    rises = []
    for k, (begin, base) in enumerate(bounds):
        top = bounds[k + 1][0] if k + 1 < len(bounds) else len(levels) - 1

        def ends(of: np.ndarray, base: int = base, top: Any = top, first: bool = begin is None) -> list[float]:
            floor = 0.0 if first else of[base]
            height = of[top] - floor
            wanted = [floor + BEGUN, *(floor + part * height for part in CRITICAL)]
            return [_crossing(levels, of, share) for share in wanted]

        floor = 0.0 if begin is None else shares[base]
        if shares[top] - floor < SMALLEST_RISE:
            continue
        spread: Any = np.quantile([ends(of) for of in resampled], [0.025, 0.975], axis=0)
        edge, low, high = (
            Estimate(value, float(a), float(b), n=n, method="bootstrap")
            for value, a, b in zip(ends(shares), *spread, strict=True)
        )
        last = int(edge.value)
        # as far down as the signal-to-noise ratio says, but not into the rise before
        least = 0 if begin is None else int(levels[begin])
        first = max(_nearest(own, own[last] * BELOW_SNR), least)
        settled = (shares[0] <= BEGUN or begin is not None) and first < last
        window = Window(int(low.value), max(math.ceil(high.value), int(low.value) + 1))
        rises.append(Rise(Window(first, last) if settled else None, window, edge if settled else None, low, high))
    return tuple(rises)
