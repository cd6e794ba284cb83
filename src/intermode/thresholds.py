r"""Thresholds: from a score to keep or reject.

Fitted on scores, applied to scores; a sample is kept while its score is at most ``value``.

* :meth:`Threshold.quantile`: keeps a given share of the scores it was fitted on.
* :meth:`Threshold.labelled`: from labelled scores, removes a given share of the hallucinations, or keeps a given share
  of the in-support samples.
* :meth:`Threshold.conformal`: from scores of samples known to be in-support (split conformal prediction, Vovk et al.
  2005). With n exchangeable scores and the k-th smallest as the threshold, k = ⌈(n + 1)(1 - α)⌉, a new
  in-support sample is kept with probability at least 1 - α, whatever the distribution of the scores.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from intermode.errors import InputError
from intermode.files import read_json, write_json
from intermode.values import as_flags, as_numbers

__all__ = ["UNNAMED", "Kept", "Threshold", "keep"]

UNNAMED = "score"
"""Stands for a score without a name, in files and where one is told."""


class Kept(np.ndarray):
    """(n,) bool, True for a sample that is kept; prints how many that are, and by what.

    A part of it (``kept[:10]``) prints as any mask does.

    Attributes:
        threshold: that keeps them.
    """

    threshold: Threshold | None

    def __new__(cls, mask: np.ndarray, threshold: Threshold) -> Kept:
        kept = np.asarray(mask, dtype=bool).view(cls)
        kept.threshold = threshold
        return kept

    def __array_finalize__(self, made_from: Any) -> None:
        self.threshold = None

    def __array_wrap__(self, made: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """What is computed from a mask (``~kept``, ``kept.sum()``) is a plain array or number."""
        return np.asarray(made)[()] if return_scalar else np.asarray(made)

    def __str__(self) -> str:
        if self.threshold is None:
            return str(np.asarray(self))
        count = int(self.sum())
        share = f" ({100 * count / len(self):.3g} %)" if len(self) else ""
        return f"{count:,} of {len(self):,} kept{share}: {self.threshold.limit}"

    def __repr__(self) -> str:
        return repr(np.asarray(self)) if self.threshold is None else str(self)


@dataclass(frozen=True)
class Threshold:
    """Keep a sample while its score is at most ``value``.

    Attributes:
        value: in the units of the score; inf keeps everything finite.
        rule: how it was found, for the record.
        score: name of the score that it is one of, if known.

    Raises:
        InputError: a value that is not a number.
    """

    value: float
    rule: str = "given"
    score: str | None = None

    def __post_init__(self) -> None:
        if math.isnan(self.value):
            raise InputError("value: nan is no threshold; must be a number")

    @classmethod
    def quantile(cls, scores: Any, kept: float, *, score: str | None = None) -> Threshold:
        """Keeps the share ``kept`` with the lowest scores.

        Args:
            scores: (n,) numbers; NaN counts as the largest.
            kept: in (0, 1).
            score: its name.

        Raises:
            InputError: ``kept`` outside (0, 1), no scores, or too few that are finite.
        """
        return cls(_smallest(_clean(scores, "scores"), _share("kept", kept)), f"quantile: kept {kept:g}", score)

    @classmethod
    def labelled(
        cls,
        scores: Any,
        hallucinated: Any,
        *,
        removed: float | None = None,
        kept: float | None = None,
        score: str | None = None,
    ) -> Threshold:
        """Fitted on labels: removes at least ``removed`` of the hallucinations while keeping as much as possible,
        or keeps at least ``kept`` of the in-support samples while removing as much as possible.

        Args:
            scores: (n,) numbers.
            hallucinated: (n,) bool.
            removed, kept: exactly one of them, in (0, 1).
            score: its name.

        Raises:
            InputError: both or none of the targets, one outside (0, 1), or a class without samples.
        """
        if (removed is None) == (kept is None):
            raise InputError("threshold: give exactly one of removed and kept")
        scores, hallucinated = as_numbers("scores", scores), as_flags("labels", hallucinated)
        if scores.shape != hallucinated.shape:
            raise InputError(f"labels: shape {hallucinated.shape} does not fit the scores' {scores.shape}")
        if kept is not None:
            ordered = _clean(scores[~hallucinated], "in-support samples")
            return cls(_smallest(ordered, _share("kept", kept)), f"labelled: kept {kept:g}", score)
        assert removed is not None
        ordered = _clean(scores[hallucinated], "hallucinated samples")
        must_go = max(math.ceil(_share("removed", removed) * len(ordered) - 1e-9), 1)
        # strictly under the lowest score that has to go
        value = float(np.nextafter(ordered[len(ordered) - must_go], -np.inf))
        return cls(value, f"labelled: removed {removed:g}", score)

    @classmethod
    def conformal(cls, in_support_scores: Any, alpha: float, *, score: str | None = None) -> Threshold:
        """Keeps a new in-support sample with probability at least 1 - ``alpha``, with no label of a hallucination.

        Args:
            in_support_scores: (n,) scores of samples known to be in-support, exchangeable with the in-support
                samples that the threshold will meet.
            alpha: in (0, 1), the share of in-support samples that may be lost.
            score: its name.

        Raises:
            InputError: alpha outside (0, 1), or fewer than 1/alpha - 1 finite scores: no finite threshold satisfies it.
        """
        ordered = _clean(in_support_scores, "in-support scores")
        n = len(ordered)
        rank = math.ceil((n + 1) * (1 - _share("alpha", alpha)) - 1e-9)
        if rank > n:
            need = math.ceil(1 / alpha - 1 - 1e-9)
            raise InputError(f"alpha: {alpha:g} needs at least {need} in-support scores; there are {n}")
        return cls(_at_rank(ordered, rank), f"conformal: alpha {alpha:g}", score)

    def keep(self, scores: Any) -> Kept:
        """(n,) bool; a score that is not finite is never kept."""
        scores = as_numbers("scores", scores)
        return Kept(np.isfinite(scores) & (scores <= self.value), self)

    @property
    def record(self) -> dict[str, Any]:
        """What a file of it holds."""
        return {"value": self.value, "rule": self.rule, "score": self.score}

    def save(self, path: str | Path) -> None:
        """Write it as JSON, whole or not at all.

        Raises:
            InputError: an infinite value, for which JSON has no word.
        """
        if math.isinf(self.value):
            raise InputError(f"value: {self.value} cannot be saved; must be finite")
        write_json(Path(path), self.record)

    @classmethod
    def load(cls, path: str | Path) -> Threshold:
        """The threshold in a file: of :meth:`save`, or the ``threshold.json`` of ``filter``.

        Raises:
            InputError: no such file, or one without one threshold.
        """
        found = read_json(Path(path))
        if isinstance(found, list) and found:
            raise InputError(f"{path}: holds a threshold for each of {len(found)} labels; must be one")
        value = found.get("value") if isinstance(found, dict) else None
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise InputError(f"{path}: is no threshold; must hold a finite number as value")
        name = found.get("score")
        return cls(float(value), str(found.get("rule", "given")), None if name in (None, UNNAMED) else str(name))

    @classmethod
    def of(cls, word: str, field: str = "threshold") -> Threshold:
        """A threshold from a number in words, or from a file (``.json``).

        Raises:
            InputError: neither of them.
        """
        if word.endswith(".json"):
            return cls.load(word)
        try:
            return cls(float(word))
        except ValueError:
            raise InputError(f"{field}: {word} is neither a number nor a threshold.json of intermode filter") from None

    @property
    def limit(self) -> str:
        """What it allows, in words."""
        return f"{self.score or UNNAMED} up to {self.value:.4g}"

    def __str__(self) -> str:
        return f"{self.limit} ({self.rule})"


def keep(scores: Any, threshold: Threshold | float, name: str | None = None) -> Kept:
    """Which samples a threshold, or a share of the lowest scores, keeps.

    A share that keeps every sample, as 0.9 of 8 does, is told of in a warning.

    Args:
        scores: (n,) numbers; or several scores by name, of which ``name``, the threshold's or the first is taken.
        threshold: or a share in (0, 1).
        name: of the score.

    Raises:
        InputError: a share outside (0, 1), or a threshold of another score.
    """
    if isinstance(threshold, Threshold) and threshold.score:
        if name not in (None, threshold.score):
            raise InputError(f"by: the threshold is one of {threshold.score}, not of {name}")
        name = threshold.score
    if isinstance(scores, Mapping):
        if not scores:
            raise InputError("scores: there are none to keep samples by; ask for a detector")
        name = next(iter(scores)) if name is None else name
        if name not in scores:
            raise InputError(f"by: no score {name!r}; choose from {', '.join(scores)}")
        scores = scores[name]
    if isinstance(threshold, Threshold):
        return Threshold(threshold.value, threshold.rule, name).keep(scores)
    if not 0 < threshold < 1:
        raise InputError(
            f"kept: {threshold} is no share, which lies strictly between 0 and 1; a limit is Threshold({threshold})"
        )
    kept = Threshold.quantile(scores, threshold, score=name).keep(scores)
    if kept.all():
        warnings.warn(f"kept: a share of {threshold:g} keeps all {len(kept)} samples", stacklevel=3)
    return kept


def _share(name: str, value: float) -> float:
    if not 0 < value < 1:
        raise InputError(f"{name}: {value} must lie strictly between 0 and 1")
    return value


def _clean(scores: Any, what: str) -> np.ndarray:
    flat = as_numbers("scores", scores).ravel()
    if len(flat) == 0:
        raise InputError(f"scores: no {what} to fit a threshold on; need at least 1")
    return np.sort(np.where(np.isnan(flat), np.inf, flat))


def _at_rank(ordered: np.ndarray, rank: int) -> float:
    """The score of that rank, from 1; a threshold must be finite, since no other score is ever kept."""
    value = float(ordered[rank - 1])
    if not math.isfinite(value):
        finite = int(np.isfinite(ordered).sum())
        raise InputError(f"scores: {rank} must be kept, but only {finite} of {len(ordered)} are finite")
    return value


def _smallest(ordered: np.ndarray, share: float) -> float:
    """The smallest score at or below which at least ``share`` of the scores lie."""
    # the tiny slack keeps 0.95 * 100 = 95.00000000000001 from asking for 96
    return _at_rank(ordered, min(max(math.ceil(share * len(ordered) - 1e-9), 1), len(ordered)))
