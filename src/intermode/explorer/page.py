"""The page: everything that it shows, as one JSON object that is computed here; the page itself only looks things up.

Arrays travel as their bytes in base64, little-endian. Samples that are ``shown`` have a picture or a point on the page;
what is counted (``kept``, ``removed``, the histogram, the shares with their intervals) is counted over all samples.
"""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from intermode.data.pixels import picture_of
from intermode.errors import InputError
from intermode.evaluation import Estimate
from intermode.explorer.cuts import Axis, cuts_of
from intermode.explorer.held import Held
from intermode.explorer.pictures import Neighbours, points, sprite
from intermode.explorer.subject import Subject, Trajectories
from intermode.files import write_text
from intermode.progress import Progress
from intermode.thresholds import UNNAMED

__all__ = ["MOST_BYTES", "chosen", "page_of", "write_page"]

MOST_BYTES = 60_000_000
"""Of a page: what a browser opens without a pause, and a mail server takes."""
MOST_POINTS = 20_000
"""Points that are drawn unless another number is asked for."""
PARTS = Path(__file__).parent
BLOCK = 256
LOOKED_AT = 64
"""Pictures whose size tells that of all."""
FRAMES = 24
"""Images of a trajectory."""


def chosen(scores: np.ndarray | None, n: int, most: int) -> np.ndarray:
    """Rising indices of the samples that are shown where not all of n can be: half of them have the highest scores, the
    others are spread evenly over the ranks below; without scores, over the data."""
    if n <= most:
        return np.arange(n)
    if scores is None:
        return np.unique(np.linspace(0, n - 1, most).astype(np.int64))
    order = np.argsort(np.nan_to_num(scores, nan=-np.inf, posinf=np.inf, neginf=-np.inf), kind="stable")
    highest = order[n - most // 2 :]
    spread = order[np.linspace(0, n - most // 2 - 1, most - most // 2).astype(np.int64)]
    return np.unique(np.concatenate([highest, spread]))


def page_of(
    subject: Subject,
    title: str,
    *,
    data: Path | None = None,
    show: int | None = None,
    most_bytes: int = MOST_BYTES,
    progress: Progress,
) -> dict[str, Any]:
    """What the page shows, as JSON.

    Args:
        subject: what it is about.
        title: of the page.
        data: training images.
        show: how many samples have a picture or a point; all images, and 20,000 points, unless given.
        most_bytes: that all pictures may take.
        progress: told how far it is.

    Raises:
        InputError: pictures that would make the page too large, or training images that do not fit.
    """
    pictured = subject.source.has_pictures
    first = next(iter(subject.scores.values()), None)
    n = len(subject)
    rows = chosen(first, n, show or (n if pictured else MOST_POINTS))
    if subject.trajectories is not None:
        rows = np.union1d(rows, subject.trajectories.rows)
    if data is not None and not pictured:
        raise InputError(f"data: is for images; {subject.source.path} holds none")
    if pictured:
        _check_size(subject, rows, most_bytes)
    found: dict[str, Any] = {
        "title": title,
        "samples": n,
        "shown": len(rows),
        "ids": [subject.source.ids(row, row + 1)[0] for row in rows.tolist()],
        "missing": list(subject.missing),
        "scores": [_score(subject, name, values, rows) for name, values in subject.scores.items()],
    }
    if pictured:
        found |= _pictures(subject, rows, data, progress)
    elif (drawn := _points(subject, rows)) is not None:
        ranges = [_range(column) for column in drawn.T]
        found["points"] = {"dimensions": drawn.shape[1], "range": ranges, "values": _packed(drawn.ravel(), "f4")}
    if subject.within is not None:
        names, which = np.unique(subject.within[1][rows], return_inverse=True)
        found["classes"] = {"by": subject.within[0], "names": names.tolist(), "of": _packed(which, "i4")}
    if subject.hallucinated is not None:
        found["hallucinated"] = _packed(np.nan_to_num(subject.hallucinated[rows], nan=2), "u1")
        found["unlabelled"] = int(np.isnan(subject.hallucinated).sum())
    if subject.rules is not None:
        names, which = np.unique(subject.rules[rows], return_inverse=True)
        found["rules"] = {"names": names.tolist(), "of": _packed(which, "i4")}
    if subject.trajectories is not None:
        found["trajectories"] = _trajectories(subject.trajectories, rows, pictured)
    return found


def write_page(path: Path, found: dict[str, Any], most_bytes: int = MOST_BYTES) -> Path:
    """Write the page of :func:`page_of`, which needs no other file.

    Raises:
        InputError: it would be too large.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(PARTS), autoescape=True)
    # a tag in an id must not end the script that holds it
    text = Markup(json.dumps(found, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"))
    page = environment.get_template("page.html").render(title=found["title"], found=text, part=_part)
    if (size := len(page.encode())) > most_bytes:
        raise _too_large(found["shown"], size, most_bytes)
    write_text(path, page)
    return path


def _part(name: str) -> Any:
    """A file of the page, as it is."""
    from markupsafe import Markup

    return Markup((PARTS / name).read_text(encoding="utf-8"))


def _too_large(shown: int, size: float, most: int) -> InputError:
    fits = int(0.9 * shown * most / size)
    fits -= fits % 10 ** max(len(str(fits)) - 2, 0)  # a round number
    return InputError(
        f"show: {shown:,} samples make a page of about {size / 1e6:,.0f} MB, and it may have {most / 1e6:g}; thin out "
        f"with --show {fits}: all are counted, and of those the ones with the highest scores and some of the rest shown"
    )


def _packed(values: Any, kind: str) -> dict[str, str]:
    array = np.ascontiguousarray(values, dtype=np.dtype(f"<{kind}"))
    return {"kind": kind, "bytes": base64.b64encode(array.tobytes()).decode()}


def _range(values: np.ndarray) -> list[float]:
    """Ends of an axis: all but a few samples that lie far outside, such as diverged ones."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return [-1.0, 1.0]
    low, high = np.quantile(finite, [0.005, 0.995])
    width = 0.3 * (high - low) or 1.0
    return [float(max(finite.min() - 0.2 * width, low - width)), float(min(finite.max() + 0.2 * width, high + width))]


def _points(subject: Subject, rows: np.ndarray) -> np.ndarray | None:
    source = subject.source
    return source.points(rows) if isinstance(source, Held) else points(source.path, subject.column, rows)


def _score(subject: Subject, name: str, values: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    """All about one score: where samples stand, and the table of each class and of all together."""
    shown = values[rows]
    finite = np.isfinite(shown)
    axis = Axis.of(values) if np.isfinite(values).any() else Axis(False, 0.0, 1.0)
    order = np.argsort(np.where(finite, shown, np.inf), kind="stable")
    order = order[~np.isnan(shown[order])]
    known = np.sort(values[~np.isnan(values)])
    groups: list[tuple[str | None, Any]] = [(None, slice(None))]
    if subject.within is not None:
        groups += [(word, subject.within[1] == word) for word in np.unique(subject.within[1]).tolist()]
    several = len(subject.scores) > 1
    return {
        "name": name or UNNAMED,
        "score": name or None,
        "command": _command(subject, name if several else None),
        "axis": {"log": axis.log, "low": axis.low, "high": axis.high},
        "values": _packed(shown, "f8"),
        "at": _packed(np.where(np.isposinf(shown), axis.high, axis.at(shown)), "f4"),
        "lower": _packed(np.searchsorted(known, shown, "left") / max(len(known), 1), "f4"),
        "order": _packed(order, "i4"),
        "tables": [_table(subject, label, values, mask, axis, rows) for label, mask in groups],
    }


def _table(
    subject: Subject, label: str | None, values: np.ndarray, mask: Any, axis: Axis, rows: np.ndarray
) -> dict[str, Any]:
    bad = None if subject.hallucinated is None else subject.hallucinated[mask]
    cuts = cuts_of(values[mask], bad)
    here = rows if label is None else rows[mask[rows]]
    ordered = np.sort(values[here][np.isfinite(values[here])])
    found: dict[str, Any] = {
        "label": label,
        **{key: getattr(cuts, key) for key in ("samples", "unscored", "infinite")},
        "value": _packed(cuts.value, "f8"),
        "at": _packed(axis.at(cuts.value), "f4"),
        "kept": _packed(cuts.kept, "i4"),
        "removed": _packed(cuts.removed, "i4"),
        "shown": _packed(np.searchsorted(ordered, cuts.value, "right"), "i4"),
        "share": " ".join(cuts.share),
        "others": axis.histogram(values[mask] if bad is None else values[mask][bad != 1]).tolist(),
    }
    if bad is not None:
        found["bad"] = axis.histogram(values[mask][bad == 1]).tolist()
    if (known := cuts.labelled) is not None:
        found["labelled"] = {
            "hallucinated": known.hallucinated,
            "others": known.others,
            "removed": _packed(known.removed, "i4"),
            "lost": _packed(known.lost, "i4"),
            "removed_share": _triples(known.removed_share),
            "kept_share": _triples(known.kept_share),
            "precision": _triples(known.precision),
        }
    return found


def _triples(estimates: Sequence[Estimate | None]) -> list[dict[str, str]]:
    """Values, lower and upper ends; NaN for none."""
    table = np.array([(np.nan,) * 3 if each is None else each.triple for each in estimates])
    return [_packed(column, "f4") for column in table.T]


def _command(subject: Subject, by: str | None) -> dict[str, str]:
    """The words that filter, before and after the share that is kept: a command, or a call in Python."""
    if subject.call is not None:
        call, within = subject.call
        named = "" if by is None else f", by={by!r}"
        return {"before": f"{call}{named}, kept=", "within": within, "after": ")"}
    path = subject.source.path
    stem = path.parent.name if path.stem == "tensors" else path.stem
    words = ["intermode", "filter", str(path)]
    for option, value in (("scores", subject.scored_by), ("column", subject.column), ("by", by)):
        if value is not None:
            words += [f"--{option}", str(value)]
    within = "" if subject.within is None else shlex.join(["--within", subject.within[0]])
    return {
        "before": f"{shlex.join(words)} --kept ",
        "within": f" {within}",
        "after": f" {shlex.join(['--out', f'{stem}-filtered'])}",
    }


def _check_size(subject: Subject, rows: np.ndarray, most_bytes: int) -> None:
    """Raise InputError if the pictures of these rows would be too much, as far as a few of them tell."""
    few = rows[np.unique(np.linspace(0, len(rows) - 1, LOOKED_AT).astype(np.int64))]
    sizes = [len(sprite(picture)) for picture in subject.source.pictures(few.tolist()) if picture is not None]
    if sizes and (size := sum(sizes) / len(sizes) * len(rows)) > most_bytes:
        raise _too_large(len(rows), size, most_bytes)


def _pictures(subject: Subject, rows: np.ndarray, data: Path | None, progress: Progress) -> dict[str, Any]:
    neighbours = None if data is None else Neighbours(data)
    sprites: list[str | None] = []
    distances, nearest = [], []
    with progress.task("pictures", len(rows), 0, "images") as task:
        for start in range(0, len(rows), BLOCK):
            here = subject.source.pictures(rows[start : start + BLOCK].tolist())
            drawn = [None if picture is None else sprite(picture) for picture in here]
            sprites += drawn
            if neighbours is not None:
                read = [k for k, picture in enumerate(here) if picture is not None]
                far, which = (np.full((len(here), neighbours.nearest), fill) for fill in (np.nan, -1))
                if read:
                    far[read], which[read] = neighbours.of([p for p in here if p is not None])
                distances.append(far)
                nearest.append(which)
            task.advance(len(drawn))
    found: dict[str, Any] = {"pictures": sprites, "unread": sprites.count(None)}
    if neighbours is not None:
        named, which = np.unique(np.concatenate(nearest), return_inverse=True)
        names = [neighbours.source.ids(row, row + 1)[0] if row >= 0 else "" for row in named.tolist()]
        pictures = [
            sprite(p) if row >= 0 and (p := neighbours.source.pictures([row])[0]) is not None else None
            for row in named.tolist()
        ]
        found["nearest"] = {
            "each": neighbours.nearest,
            "searched": len(neighbours.rows),
            "of_all": len(neighbours.source),
            "ids": names,
            "pictures": pictures,
            "which": _packed(which, "i4"),
            "distance": _packed(np.concatenate(distances), "f4"),
        }
    return found


def _trajectories(moved: Trajectories, rows: np.ndarray, pictured: bool) -> dict[str, Any]:
    """x0_hat of each of some shown samples, by their places among these."""
    frames = np.arange(len(moved.timesteps))
    if pictured:
        frames = np.unique(np.linspace(0, len(frames) - 1, FRAMES).round().astype(np.int64))
    of: dict[int, Any] = {}
    for k, place in enumerate(np.searchsorted(rows, moved.rows).tolist()):
        own = moved.x0_hat[frames, k]
        of[place] = (
            [sprite(picture_of(each)) for each in own] if pictured else _packed(own.reshape(len(frames), -1), "f4")
        )
    return {"timesteps": moved.timesteps[frames].tolist(), "of": of}
