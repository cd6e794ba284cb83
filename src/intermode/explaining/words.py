"""Three sentences that say what was found of a sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from intermode.explaining.paths import Path
from intermode.targets.gaussian import GaussianMixture

if TYPE_CHECKING:
    from intermode.explaining import Explanation

__all__ = ["sentences"]

MENDED, HOPELESS = 0.9, 0.1
"""Shares of good outcomes from which a restart mends a sample, and up to which it does not."""
NOTHING = 1e-6
"""Share of a distance under which nothing is left of it."""
PLACES = 3
"""That are told of where restarts end."""


def percent(share: float) -> str:
    """A share without a digit that says nothing, and never rounded to all or nothing."""
    if 0 < share < 1:
        share = min(max(share, 0.0001), 0.9999)
    return f"{100 * share:.4g} %" if share > 0.99 else f"{100 * share:.3g} %"


def sentences(found: Explanation) -> tuple[str, str, str]:
    """Its score, what it is, and what a restart makes of it."""
    return _standing(found), _being(found), _restarts(found)


def _standing(found: Explanation) -> str:
    s = found.standing
    others = len(s.values) - 1
    name = s.name or "score"
    here = f" {others:,} others of these samples, scored here for they brought no scores" if s.computed else ""
    first = f"Sample {found.name} has a {name} of {s.value:.4g}, higher than that of {percent(s.lower)} of"
    first += here or f" the {others:,} others"
    if found.rule is None:
        return f"{first}."
    support = "off the support" if found.hallucinated else "in the support"
    why = "" if found.rule == "in-support" else f" ({found.rule})"
    return f"{first}; by what is known of the data it is {support}{why}."


def _being(found: Explanation) -> str:
    parts = []
    if (blend := found.blend) is not None:
        (near, other), (d, further) = blend.names, blend.distances
        unit = " a pixel (root mean square)" if found.x.ndim > 1 else ""
        if isinstance(found.target, GaussianMixture) and np.ptp(found.target.sigma) == 0:
            unit = f" ({d / found.target.sigma[0]:.2g}σ)"
        left = f"leave {blend.residual:.3g}" if blend.residual > NOTHING * further else "leave nothing"
        parts.append(
            f"it lies {d:.3g}{unit} from {near} and {further:.3g} from {other}, and {percent(1 - blend.weight)} of the "
            f"one with {percent(blend.weight)} of the other come closest and {left}"
        )
    path, typical = found.path, found.typical
    how = "on the way that was recorded its x0_hat" if path.recorded else "noised again, its x0_hat"
    if path.moved is None:
        parts.append(f"{how} does not move")
    else:
        low, high = path.moved
        top = float(path.away.max())
        told = f"{how} {'came to it' if path.recorded else 'leaves it'} between t = {low} and {high} (a tenth and nine "
        parts.append(f"{told}tenths of the largest distance, {top:.3g}){_beside(typical)}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _beside(typical: Path | None) -> str:
    if typical is None or typical.moved is None:
        return ""
    return ", that of a typical sample between t = {} and {}".format(*typical.moved)


def _restarts(found: Explanation) -> str:
    r = found.restarts
    count, good = len(r.good), int(r.good.sum())
    if r.limit is None:
        passed = "end in the support"
    else:
        passed = f"have a {r.limit[0]} of at most {r.limit[1]:.4g}, as 98 % of the samples have"
    text = f"Restarted {count} times from t = {r.t}, {good} {passed}"
    if r.where:
        places = sorted(r.where.items(), key=lambda item: -item[1])
        listed = [f"{n} at {place}" for place, n in places[:PLACES]]
        rest = sum(n for _, n in places[PLACES:])
        text += f" ({', '.join(listed)}{f', {rest} elsewhere' if rest else ''})"
    share = float(np.mean(r.good))
    if r.was_good:
        said = "it was good, and stays so" if share >= MENDED else "it passes as it is"
    elif share >= MENDED:
        said = "a repair mends it"
    elif share > HOPELESS:
        said = "a repair mends it in some tries"
    else:
        said = f"what is wrong was decided above t = {r.t}, and a repair must draw it anew or begin higher"
    return f"{text}: {said}."
