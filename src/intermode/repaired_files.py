"""A repair of data in files: a folder with the samples, what became of each, and a look at them before and after.

The data itself is never changed. The folder holds

* ``samples.safetensors``: all samples, their scores, and who was touched, accepted and drawn afresh;
* ``repaired.csv``: the same in words, a row for each sample with its id;
* ``images/``: of a folder of images a copy of it, in which the mended ones are replaced;
* ``before-after.png``: some of those touched, of images; of one or two numbers where all samples lie.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intermode.data import Source, open_source
from intermode.data.pixels import picture_of
from intermode.denoisers import Denoiser
from intermode.files import replacing, whole_folder
from intermode.filtering import check_new, check_outside
from intermode.places import save_samples
from intermode.progress import Progress
from intermode.repairs import Repaired, repair

__all__ = ["repair_files"]

SHOWN = 24
"""Images on the sheet."""
COLUMNS = 4


def repair_files(
    denoiser: Denoiser, data: Path, out: Path, *, column: str | None = None, progress: Progress, **settings: Any
) -> Repaired:
    """Repair a data set, held in memory, and write what came of it.

    A sample that cannot be read counts as one that is not finite.

    Args:
        data: see :func:`intermode.data.open_source`.
        out: a new folder; it appears when all is done.
        column: of a table, that holds the samples.
        settings: of :func:`intermode.repair`.

    Raises:
        InputError: a folder that is not new, or what ``repair`` refuses.
    """
    check_new(out)
    check_outside(out, data)
    source = open_source(data, denoiser.shape, column=column, progress=progress)
    x = _read(source)
    repaired = repair(denoiser, x, progress=progress, **settings)
    with whole_folder(out) as folder:
        save_samples(folder / "samples.safetensors", repaired)
        _list(source, repaired, folder / "repaired.csv")
        if source.form == "image folder":
            _replace(source, repaired, source.write(np.arange(len(source)), folder / "images"))
        show(x, repaired, folder / "before-after.png")
    return repaired


def _read(source: Source) -> Tensor:
    parts = []
    for block in source.blocks(1024):
        values = block.values.clone()
        values[[index - block.first for index in block.unread]] = torch.nan
        parts.append(values)
    return torch.cat(parts)


def _list(source: Source, repaired: Repaired, path: Path) -> None:
    (name, scores), *_ = repaired.scores.items()
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["id", name, "touched", "accepted", "fresh"])
        flags = (getattr(repaired, flag).astype(int).tolist() for flag in ("touched", "accepted", "fresh"))
        lines.writerows(zip(source.ids(0, len(source)), map(repr, scores.tolist()), *flags, strict=True))


def _replace(source: Source, repaired: Repaired, folder: Path) -> None:
    """Write the mended images over the copies of what they were."""
    from PIL import Image

    names = source.ids(0, len(source))
    for row in np.flatnonzero(repaired.mended).tolist():
        pixels = ((repaired.x[row].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        array = pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)
        Image.fromarray(array.numpy()).save(folder / names[row])


def show(before: Tensor, repaired: Repaired, path: Path) -> None:
    """A figure of samples before (n, *shape) and after; none of more numbers that are no image."""
    from intermode import plots

    shape, touched = tuple(before.shape[1:]), np.flatnonzero(repaired.touched)
    if len(shape) == 3 and shape[0] in (1, 3) and len(touched):
        # those given up first: what a repair cannot do
        rows = touched[np.argsort(repaired.accepted[touched], kind="stable")][:SHOWN]
        words = np.where(repaired.given_up, "given up", np.where(repaired.fresh, "drawn afresh", "mended"))
        panels = [
            (title, [picture_of(x[row].numpy()) for row in rows], [f"{row} {words[row]}" for row in rows])
            for title, x in (("before", before), ("after", repaired.x))
        ]
        plots.sheet(path, panels, COLUMNS)
    elif shape in ((1,), (2,)):
        was, now = (x.double().numpy() for x in (before, repaired.x))
        plots.before_after(path, was, now, repaired.touched, repaired.given_up)
