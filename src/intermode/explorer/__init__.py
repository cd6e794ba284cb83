"""A data set and its scores as one page to look through before anything is thrown away.

The page opens from disk and needs no network: a threshold to move, the samples on both sides of it, the best and the
worst, and the command that does what is on the screen. Whatever is counted is counted here, over all samples, in a
table of thresholds (:mod:`intermode.explorer.cuts`). uPlot (MIT licence) draws the charts; it is part of the page.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from intermode.errors import InputError
from intermode.explorer.held import Held, held_subject
from intermode.explorer.page import page_of, write_page
from intermode.explorer.subject import is_pool, is_run, open_subject
from intermode.filtering import check_outside
from intermode.jobs import Done
from intermode.progress import Progress, Silent
from intermode.values import as_whole
from intermode.verbs import shown, strict

__all__ = ["explore", "explore_run"]

SHOWN = 10_000
"""Samples of a pool on the page beside a report: images of any size fit."""


@strict
def explore(
    samples: Any,
    *,
    scores: Any = None,
    labels: Any = None,
    within: Any = None,
    data: str | Path | None = None,
    column: str | None = None,
    show: int | None = None,
    out: str | Path | None = None,
    progress: Progress | bool | None = None,
) -> Path:
    """Write a page to look through samples by their scores, and return its path.

    Args:
        samples: the path of a folder of images, ``.npy``, ``.csv``, ``.safetensors``, ``.parquet``, a folder written by
            datasets or by ``sample``; the run of a study that keeps its samples; or, in memory,
            :class:`intermode.Samples`, or a tensor, array or list of n samples (images in -1..1, or bytes).
        scores: file of their scores; of samples in memory (n,) numbers, NaN for none, or several by name. Those that
            the samples bring unless given. Without any the page shows the samples alone, and a warning says so.
        labels: file that says which samples are hallucinated, for each, or by id for some; of samples in memory (n,) 1
            or 0, NaN where it is not known.
        within: file of labels such as classes, or a column of the data, that can get a threshold each; of samples in
            memory (n,) labels. The classes that samples were drawn as, or the folders of images, unless given.
        data: training images, of which the nearest to a sample are shown: among the first 5,000.
        column: of a table, that holds the samples; found out unless given.
        show: how many samples have a picture or a point: those with the highest scores, and some of the rest. All
            images and 20,000 points unless given; all samples are counted in any case.
        out: the page; ``explorer.html`` in a run's folder, or ``NAME-explorer.html`` here (``samples-explorer.html`` of
            samples in memory), unless given.
        progress: True shows a bar.

    Raises:
        InputError: what :func:`intermode.filter` would refuse, a page that would be larger than 60 MB, or training
            images that do not fit.
    """
    path = Path(samples) if isinstance(samples, str | Path) else Held.path
    in_files = path is not Held.path
    ours = in_files and is_run(path)  # its folder may be written to
    usual = path / "explorer.html" if ours else Path(f"{path.resolve().stem}-explorer.html")
    page = usual if out is None else Path(out)
    if page.suffix not in (".html", ".htm") or page.is_dir():
        raise InputError(f"out: {page} must be a file that ends in .html")
    most = None if show is None else as_whole("show", show, 2)
    if not in_files:
        if column is not None:
            raise InputError("column: is for tables in files; samples in memory have none")
        found = held_subject(samples, scores=scores, labels=labels, within=within)
    else:
        if not ours:
            check_outside(page, path)
        given = {"scores": scores, "labels": labels, "within": within}
        if odd := [name for name, each in given.items() if not isinstance(each, str | Path | None)]:
            raise InputError(f"{odd[0]}: of samples in files are a file too, which the page's command can name")
        files = {name: None if each is None else Path(each) for name, each in given.items() if name != "within"}
        found = open_subject(path, **files, within=None if within is None else str(within), column=column)
    training = None if data is None else Path(data)
    write_page(page, page_of(found, str(path), data=training, show=most, progress=shown(progress)))
    for line in found.missing:
        warnings.warn(line, stacklevel=3)
    return page


def explore_run(run: Path, jobs: Iterable[Done]) -> list[Path]:
    """Write the page of each labelled pool of a run beside its report: ``explorer.html``, or one with the pool's name.

    Args:
        run: the run folder.
        jobs: its finished jobs.
    """
    pools = {one.folder: open_subject(one.folder) for one in jobs if is_pool(one)}
    labelled = {folder: found for folder, found in pools.items() if found.hallucinated is not None}
    pages = []
    for folder, found in labelled.items():
        name = folder.name.rpartition("-")[0]  # without the digest
        page = run / ("explorer.html" if len(labelled) == 1 else f"explorer-{name}.html")
        pages.append(write_page(page, page_of(found, f"{run.name}: {name}", show=SHOWN, progress=Silent())))
    return pages
