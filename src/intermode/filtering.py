"""A data set cut in two by a threshold on its scores.

The threshold is fitted on what has a score; a sample without one (it could not be read) is in neither part. Data in
files is never changed: both parts are written in its own form, with the scores of each, ``threshold.json`` and a sheet
of the best and worst images, where samples without a score stand in the list of the rejected, theirs empty.

A score may rank by class or colour before it ranks by plausibility: one threshold for all then takes whole classes.
``within`` fits one for each label, so that every label keeps its share.
"""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intermode.data import Source, open_source
from intermode.detect.registry import DEFAULTS
from intermode.errors import InputError
from intermode.files import replacing, write_json
from intermode.scores import Scores, read_labels, read_scores, scores_beside
from intermode.thresholds import UNNAMED, Threshold
from intermode.values import as_flags, as_numbers
from intermode.verbs import strict

__all__ = ["Cut", "Filtered", "filter"]

SHOWN = 16
"""Images of a kind on the sheet."""
COLUMNS = 4
ROWS = 65536


@dataclass(frozen=True)
class Cut:
    """What one threshold did.

    Attributes:
        threshold: that it was.
        samples: that it was asked of, those without a score among them.
        kept: at or under it.
        skipped: without a score.
        label: of all these samples, if there is a threshold for each label.
    """

    threshold: Threshold
    samples: int
    kept: int
    skipped: int
    label: str | None = None

    @property
    def record(self) -> dict[str, Any]:
        """What ``threshold.json`` holds."""
        counts = {"samples": self.samples, "kept": self.kept, "skipped": self.skipped}
        return ({} if self.label is None else {"label": self.label}) | self.threshold.record | counts

    def __str__(self) -> str:
        label = "" if self.label is None else f"{self.label}: "
        unread = f", {self.skipped:,} without a score" if self.skipped else ""
        share = 100 * self.kept / self.samples
        return f"{label}{self.kept:,} of {self.samples:,} kept ({share:.3g} %){unread}: {self.threshold}"


@dataclass(frozen=True)
class Filtered:
    """Data cut in two; prints how much was kept, and by what.

    Attributes:
        mask: (n,) bool, True for what is kept.
        kept, rejected: the parts, in the form that the data had: tensor, array or list; the path of each for files.
        cuts: what the threshold did; or each label's, in order.
        out: the folder that was written, for files.
    """

    mask: np.ndarray
    kept: Any
    rejected: Any
    cuts: tuple[Cut, ...]
    out: Path | None = None

    @property
    def threshold(self) -> Threshold:
        """The only one.

        Raises:
            InputError: there is one for each label.
        """
        if len(self.cuts) > 1:
            raise InputError(f"threshold: there are {len(self.cuts)}, one for each label; see cuts")
        return self.cuts[0].threshold

    def __str__(self) -> str:
        if self.cuts[0].label is None:
            return str(self.cuts[0])
        count = int(self.mask.sum())
        total = f"{count:,} of {len(self.mask):,} kept ({100 * count / len(self.mask):.3g} %), within each label"
        return "\n".join([total, *(f"  {cut}" for cut in self.cuts)])


@strict
def filter(
    data: Any,
    scores: Any = None,
    *,
    kept: float | None = None,
    reference: Any = None,
    alpha: float = 0.01,
    labels: Any = None,
    removed: float = 0.95,
    by: str | None = None,
    within: Any = None,
    column: str | None = None,
    out: str | Path | None = None,
) -> Filtered:
    """Keep the samples under a threshold: give one of ``kept``, ``reference`` and ``labels``.

    Args:
        data: :class:`intermode.Samples`; a tensor, array or list of n samples; or the path of a data set
            (:func:`intermode.data.open_source`), which is never changed.
        scores: (n,) numbers, larger = more suspect; several by name; or the path of a file of them. Unless given,
            those that the data brings: ``Samples`` do, and the file that ``sample`` writes.
        kept: keep this share of the samples, those with the lowest scores.
        reference: scores, as above, of samples known to be good: with alpha, a guarantee on what is kept.
        alpha: a good sample is lost with at most this probability (with ``reference``).
        labels: (n,) whether samples are hallucinated; or the path of a file that says so for each, or by id for some.
        removed: remove this share of the hallucinations (with ``labels``).
        by: name of the score. Where there are several: lid if it is among them, and else the first of ``Samples`` and
            mappings; of files one must be named.
        within: (n,) labels, such as classes, that get a threshold each; or the path of a file that has one for each
            sample, or by id; or the name of a column of the data.
        column: of a table, that holds the images for the sheet; found out unless given.
        out: folder for both parts of a data set in files: its samples in their own form, ``kept_scores.csv``,
            ``rejected_scores.csv``, ``threshold.json`` (a list of one for each label with ``within``) and, of images,
            ``sheet.png``.

    Raises:
        InputError: not one of the three ways, numbers that do not fit the data, a share out of its range or that
            cannot be reached, or a folder that cannot be used.
    """
    ways = [name for name, way in (("kept", kept), ("reference", reference), ("labels", labels)) if way is not None]
    if len(ways) != 1:
        raise InputError(f"threshold: give exactly one of kept, reference and labels (got {len(ways)})")
    if reference is not None and within is not None:
        raise InputError("within: a reference has no labels to fit thresholds within; give kept or labels")
    if not isinstance(data, str | Path) and (out is not None or column is not None):
        name = "column" if out is None else "out"
        raise InputError(f"{name}: is for data in files; the parts of other data are returned")
    source = _opened(Path(data), column, out) if isinstance(data, str | Path) else None
    known = scores_for(data, source, scores)
    if by is None and (known.path is None or DEFAULTS["finished"] in known.columns):
        by = DEFAULTS["finished"] if DEFAULTS["finished"] in known.columns else next(iter(known.columns))
    name, values = known.column(by, "scores")
    n, unread = len(values), np.isnan(values)
    good, bad = np.zeros(0), np.zeros(0)
    if reference is not None:
        told = scores_from(reference, "reference")
        told.check_same_score(known, "reference")
        good = told.column(name or None, "reference")[1]
        good = good[~np.isnan(good)]
    if labels is not None:
        bad = hallucinated_of(scores_from(labels, "labels"), n, source)

    def fitted(rows: np.ndarray) -> Threshold:
        """On those of the rows that have a score, and a label if labels are given."""
        rows = rows[~unread[rows]]
        if kept is not None:
            return Threshold.quantile(values[rows], kept, score=name or None)
        if reference is not None:
            return Threshold.conformal(good, alpha, score=name or None)
        rows = rows[~np.isnan(bad[rows])]
        return Threshold.labelled(values[rows], bad[rows], removed=removed, score=name or None)

    cuts = []
    mask = np.zeros(n, dtype=bool)
    for label, rows in groups_of(within, n, source):
        try:
            threshold = fitted(rows)
        except InputError as error:
            raise InputError(f"{error} (within {label})" if label is not None else str(error)) from None
        keep = threshold.keep(values[rows])
        cuts.append(Cut(threshold, len(rows), int(keep.sum()), int(unread[rows].sum()), label))
        mask[rows] = keep
    mask = mask if within is not None else keep
    if kept is not None and (whole := [cut for cut in cuts if cut.kept == cut.samples]):
        of = (
            ""
            if within is None
            else f" of {whole[0].label}" + (f", and of {len(whole) - 1} more labels" * (len(whole) > 1))
        )
        warnings.warn(f"kept: a share of {kept:g} keeps all {whole[0].samples} samples{of}", stacklevel=3)
    if source is None:
        samples = getattr(data, "x", data)
        parts = [_rows(samples, np.flatnonzero(part)) for part in (mask, ~mask & ~unread)]
        return Filtered(mask, parts[0], parts[1], tuple(cuts))
    folder = Path(out or "")
    with _whole_folder(folder) as new:
        names = _write_parts(source, values, name or UNNAMED, mask, cuts, new)
    return Filtered(mask, folder / names[0], folder / names[1], tuple(cuts), folder)


def check_new(folder: Path) -> None:
    """Raise InputError unless the folder is empty or not there."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"out: {folder} is not an empty folder; choose another")


def check_outside(out: Path, data: Path) -> None:
    """Raise InputError if something would be written over the data, or into its folder."""
    there, here = out.resolve(), data.resolve()
    if there == here:
        raise InputError(f"out: {out} is the data itself; choose another place")
    if here in there.parents:
        raise InputError(f"out: {out} lies in the data's folder {data}, which is never changed; choose another place")


def _opened(path: Path, column: str | None, out: str | Path | None) -> Source:
    """Data in files, and a folder to write its parts to."""
    source = open_source(path, column=column)
    if out is None:
        raise InputError("out: both parts of files are written; give a folder for them")
    check_new(Path(out))
    check_outside(Path(out), path)
    return source


def scores_for(data: Any, source: Source | None, scores: Any) -> Scores:
    """The scores that are given, or that the data brings; one for each sample."""
    if scores is None:
        scores = getattr(data, "scores", None) if source is None else scores_beside(source.path)
    if scores is None:
        raise InputError(f"scores: {source.path if source else 'the data'} holds none; give scores")
    known = scores_from(scores, "scores")
    if source is not None:
        known.check_data(source)
    elif len(known) != (n := len(getattr(data, "x", data))):
        raise InputError(f"scores: {len(known)} for {n} samples; need one for each")
    return known


def scores_from(scores: Any, field: str) -> Scores:
    """Numbers for each sample, in whatever form they are given."""
    if isinstance(scores, str | Path):
        return read_scores(Path(scores), field)
    if isinstance(scores, Scores):
        return scores
    scores = getattr(scores, "scores", scores)
    named = scores if isinstance(scores, Mapping) else {"": scores}
    read = as_flags if field == "labels" else as_numbers
    columns = {str(name): read(field, values) for name, values in named.items()}
    shapes = {values.shape for values in columns.values()}
    if len(shapes) != 1 or any(len(shape) != 1 for shape in shapes):
        listed = ", ".join(map(str, sorted(shapes))) or "none"
        raise InputError(f"{field}: numbers of shape {listed}; must be (n,)")
    return Scores(None, columns)


def _rows_of(ids: Sequence[str] | None, count: int, n: int, source: Source | None, field: str, path: Any) -> np.ndarray:
    """(m,) indices of the samples that ``count`` values in a file belong to, by id if it has ids.

    Raises:
        InputError: another number of values than samples, or an id that the data does not have.
    """
    if ids is None:
        if count != n:
            raise InputError(f"{field}: {path or 'given'} must hold {n} values, one for each sample; it holds {count}")
        return np.arange(n)
    index = {name: row for row, name in enumerate(source.ids(0, n) if source else map(str, range(n)))}
    if unknown := [name for name in ids if name not in index]:
        where = source.path if source else "the data"
        raise InputError(f"{field}: {path} names {len(unknown)} samples that {where} lacks ({unknown[0]} say)")
    return np.array([index[name] for name in ids])


def hallucinated_of(labels: Scores, n: int, source: Source | None) -> np.ndarray:
    """(n,) 0 or 1, NaN for a sample that is not labelled; only a file with ids may leave some out."""
    _, values = labels.column(None, "labels")
    rows = _rows_of(labels.ids, len(values), n, source, "labels", labels.path)
    if not np.isin(values, (0, 1)).all():
        raise InputError(f"labels: {labels.path} must hold 0 or 1 for each sample")
    found = np.full(n, np.nan)
    found[rows] = values
    return found


def groups_of(within: Any, n: int, source: Source | None) -> list[tuple[str | None, np.ndarray]]:
    """The samples of each label, in the order of the labels; all of them without a label where there are none."""
    if within is None:
        return [(None, np.arange(n))]
    ids, path = None, None
    if isinstance(within, str | Path):
        if source is not None and not Path(within).exists():
            found = source.column(str(within))
        else:
            path = Path(within)
            ids, found = read_labels(path, "within")
    else:
        found = np.asarray(within.detach().cpu() if isinstance(within, Tensor) else within).astype(str)
    if found.ndim != 1:
        raise InputError(f"within: labels of shape {found.shape}; must be one for each of {n} samples")
    rows = _rows_of(ids, len(found), n, source, "within", path)
    if len(missing := np.setdiff1d(np.arange(n), rows)):
        name = source.ids(missing[0], missing[0] + 1)[0] if source else missing[0]
        raise InputError(f"within: {path} has no label for {len(missing)} samples ({name} say); each must have one")
    labels = np.empty(n, dtype=found.dtype)
    labels[rows] = found
    names, which = np.unique(labels, return_inverse=True)
    order = np.argsort(which, kind="stable")
    groups = zip(names.tolist(), np.split(order, np.cumsum(np.bincount(which))[:-1]), strict=True)
    return sorted(groups, key=lambda group: (not group[0].isdecimal(), len(group[0]) * group[0].isdecimal(), group[0]))


def _rows(data: Any, rows: np.ndarray) -> Any:
    """A part of a tensor, an array, or whatever else has items."""
    if isinstance(data, Tensor):
        return data[torch.from_numpy(rows).to(data.device)]
    return data[rows] if isinstance(data, np.ndarray) else [data[row] for row in rows.tolist()]


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """A folder beside ``folder`` to write to; renamed to it on success, removed on failure."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp makes folders private to their owner
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_parts(
    source: Source, scores: np.ndarray, name: str, mask: np.ndarray, cuts: Sequence[Cut], folder: Path
) -> list[str]:
    """Write everything, and return the names of the two parts."""
    unread = np.isnan(scores)
    names = []
    for part, written, listed in (("kept", mask, mask), ("rejected", ~mask & ~unread, ~mask)):
        names.append(source.write(np.flatnonzero(written), folder / part).name)
        _list(source, scores, np.flatnonzero(listed), name, folder / f"{part}_scores.csv")
    records = [cut.record for cut in cuts]
    write_json(folder / "threshold.json", records[0] if cuts[0].label is None else records)
    if source.has_pictures:
        _sheet(source, scores, mask, folder / "sheet.png")
    return names


def _list(source: Source, scores: np.ndarray, rows: np.ndarray, name: str, path: Path) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["id", name])
        for start in range(0, len(source), ROWS):
            ids = source.ids(start, min(start + ROWS, len(source)))
            for row in rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + ROWS)].tolist():
                lines.writerow([ids[row - start], "" if np.isnan(scores[row]) else repr(float(scores[row]))])


def _sheet(source: Source, scores: np.ndarray, mask: np.ndarray, path: Path) -> None:
    from intermode.plots import sheet

    order = np.argsort(scores, kind="stable")[: int((~np.isnan(scores)).sum())]  # NaN comes last
    half = min(SHOWN, max(1, len(order) // 2))
    panels = []
    for title, rows in (("lowest scores", order[:half]), ("highest scores", order[::-1][:half])):
        pictures = source.pictures([int(row) for row in rows])
        shown = [(picture, row) for picture, row in zip(pictures, rows, strict=True) if picture is not None]
        captions = [f"{scores[row]:.3g}" + ("" if mask[row] else " rejected") for _, row in shown]
        panels.append((title, [picture for picture, _ in shown], captions))
    sheet(path, panels, COLUMNS)
