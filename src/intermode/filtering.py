"""A data set cut in two by a threshold on its scores.

Both parts are written in the data set's own form, with the scores of each and a sheet of the best and worst images. A
sample without a score (it could not be read) is in neither part; it stands in the list of the rejected, its score
empty. The threshold is fitted on what has a score.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from intermode.data import Source
from intermode.errors import InputError
from intermode.files import replacing, write_json
from intermode.scores import Scores
from intermode.thresholds import Threshold

__all__ = ["labels_of", "write_parts"]

SHOWN = 16
"""Images of a kind on the sheet."""
COLUMNS = 4
ROWS = 65536


def labels_of(labels: Scores, source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Which samples are labelled, and whether each of them is hallucinated: (m,) indices and (m,) bool.

    A file with ids may label some of the samples only; one without has a label for each.

    Raises:
        InputError: another number of labels, an id that the data does not have, or what is neither 0 nor 1.
    """
    _, values = labels.column(None, "labels")
    if labels.ids is None:
        rows = np.arange(len(source))
    else:
        index = {name: row for row, name in enumerate(source.ids(0, len(source)))}
        if unknown := [name for name in labels.ids if name not in index]:
            raise InputError(
                f"labels: {labels.path} names {len(unknown)} samples that {source.path} lacks ({unknown[0]} say)"
            )
        rows = np.array([index[name] for name in labels.ids])
    if len(values) != len(rows) or not set(values.tolist()) <= {0.0, 1.0}:
        count = f"{len(source)} numbers" if labels.ids is None else "numbers"
        raise InputError(f"labels: {labels.path} must hold {count}, each 0 or 1")
    return rows, values.astype(bool)


def write_parts(source: Source, scores: np.ndarray, name: str, threshold: Threshold, folder: Path) -> np.ndarray:
    """Write both parts of a data set into a folder, and return which samples are kept, (n,) bool.

    Files: ``kept`` and ``rejected`` in the form of the source (a folder, or with its suffix); ``kept_scores.csv`` and
    ``rejected_scores.csv`` (id, score); ``threshold.json``; and of images ``sheet.png``.

    Args:
        source: the data set, which is not changed.
        scores: (n,), NaN for a sample that could not be read.
        name: of the score.
        threshold: what is kept.
        folder: that exists.
    """
    keep = threshold.keep(scores)
    skipped = np.isnan(scores)
    for part, written, listed in (("kept", keep, keep), ("rejected", ~keep & ~skipped, ~keep)):
        source.write(np.flatnonzero(written), folder / part)
        _list(source, scores, np.flatnonzero(listed), name, folder / f"{part}_scores.csv")
    record = {
        "value": threshold.value,
        "rule": threshold.rule,
        "score": name,
        "samples": len(scores),
        "kept": int(keep.sum()),
        "skipped": int(skipped.sum()),
    }
    write_json(folder / "threshold.json", record)
    if source.has_pictures:
        _sheet(source, scores, threshold, folder / "sheet.png")
    return keep


def _list(source: Source, scores: np.ndarray, rows: np.ndarray, name: str, path: Path) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["id", name])
        for start in range(0, len(source), ROWS):
            ids = source.ids(start, min(start + ROWS, len(source)))
            for row in rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + ROWS)].tolist():
                lines.writerow([ids[row - start], "" if np.isnan(scores[row]) else repr(float(scores[row]))])


def _sheet(source: Source, scores: np.ndarray, threshold: Threshold, path: Path) -> None:
    from intermode.plots import sheet

    order = np.argsort(scores, kind="stable")[: int((~np.isnan(scores)).sum())]  # NaN comes last
    half = min(SHOWN, max(1, len(order) // 2))
    panels = []
    for title, rows in (("lowest scores", order[:half]), ("highest scores", order[::-1][:half])):
        pictures = source.pictures([int(row) for row in rows])
        shown = [(picture, scores[row]) for picture, row in zip(pictures, rows, strict=True) if picture is not None]
        captions = [f"{score:.3g}" + (" rejected" if not score <= threshold.value else "") for _, score in shown]
        panels.append((title, [picture for picture, _ in shown], captions))
    sheet(path, panels, COLUMNS)
