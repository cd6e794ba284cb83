"""How figures look: the colours of things, which mean the same everywhere, and how a figure begins and ends.

The colours are those of Okabe and Ito (jfly.uni-koeln.de/color, 2008), which people with any kind of colour vision can
tell apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from intermode.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "BAD",
    "BEST",
    "CUT",
    "EXACT",
    "GOOD",
    "GUIDE",
    "LEARNED",
    "MENDED",
    "OTHER",
    "STYLE",
    "TRUE",
    "Box",
    "colours_of",
    "figure",
    "image",
    "save",
    "shades",
]

BLACK, GREY = "#000000", "#8a8a8a"
ORANGE, SKY, GREEN, YELLOW = "#e69f00", "#56b4e9", "#009e73", "#f0e442"
BLUE, VERMILION, PURPLE = "#0072b2", "#d55e00", "#cc79a7"

GOOD, BAD = BLUE, VERMILION
"""Samples in the support of the data, and hallucinated ones."""
TRUE, LEARNED = GREEN, PURPLE
"""Of the data and its score, and of a model's."""
EXACT, MENDED, OTHER = BLACK, SKY, ORANGE
"""A law that was computed rather than drawn; what a restart or a repair made; a second thing beside a first."""
CUT, GUIDE, BEST = BLACK, GREY, GREEN
"""A threshold; modes, windows and other lines to see by; what did best."""

KNOWN: dict[str, tuple[str, str]] = {
    "hallucinated": (BAD, "-"),
    "in-support": (GOOD, "-"),
    "generated": (GOOD, "-"),
    "true": (TRUE, "-"),
    "learned": (LEARNED, "-"),
    "hal": (ORANGE, "-"),
    "hal-renoise": (ORANGE, "--"),
    "lid": (BLUE, "-"),
    "residual": (SKY, "-"),
    "bias": (PURPLE, "-"),
    "knn": (GREEN, "-"),
    "boundary": (GREEN, ":"),
    "realism": (GREEN, "--"),
    "posterior-variance": (VERMILION, "-"),
    "posterior-variance-largest": (VERMILION, "--"),
    "aleatoric": (VERMILION, ":"),
    "curvature": (PURPLE, "--"),
    "lmi": (PURPLE, ":"),
    "diffpath": (SKY, "--"),
    "diffpath-6d": (SKY, ":"),
    "bayesdiff": (BLUE, "--"),
    "generative-uncertainty": (BLUE, ":"),
    "all": (BLACK, "-"),
    "unfiltered": (BLACK, "-"),
    "no filter": (BLACK, "-"),
    "random": (GREY, "-"),
    "white": (GREY, "--"),
    "oracle": (GREEN, "-."),
    "repair": (SKY, "-."),
    "plain": (BLACK, "--"),
}
"""Colour and line of what has one everywhere."""
ORDER = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK)
"""Of what has none, in this order."""

STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 8,
}

Box = tuple[float, float, float, float]
"""Row, column, height and width of a part of an image, in pixels."""


def colours_of(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """``color`` and ``ls`` of each name: its own where it has one, and else the next of the order that is free; more
    names than there are looks share them."""
    listed = list(dict.fromkeys(names))
    own = {name: KNOWN[name.lower()] for name in listed if name.lower() in KNOWN}
    taken = {look for look in own.values()}
    free = [(colour, line) for line in ("-", "--", ":", "-.") for colour in ORDER if (colour, line) not in taken]
    rest = dict(zip((name for name in listed if name not in own), cycle(free), strict=False))
    return {name: dict(zip(("color", "ls"), (own | rest)[name], strict=True)) for name in listed}


def shades(colour: str) -> LinearSegmentedColormap:
    """From a light shade of a colour, at 0, to the colour itself, at 1: many lines of one kind."""
    light = 0.55 + 0.45 * np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    return LinearSegmentedColormap.from_list(colour, [tuple(light), colour])


def figure(width: float, height: float, columns: int = 1, rows: int = 1, **grid: Any) -> tuple[Figure, list[Axes]]:
    """A figure of that many inches, and its axes row by row."""
    made = Figure(figsize=(width, height), layout="constrained")
    axes = made.subplots(rows, columns, squeeze=False, **grid)
    return made, list(axes.ravel())


def save(figure: Figure, path: Path) -> None:
    """Write ``<path>.png`` and, for papers, ``<path>.pdf`` beside it."""
    for suffix in (".png", ".pdf"):
        with replacing(path.with_suffix(suffix)) as temporary:
            # no creation date, so that the same figure is the same file
            metadata = {"CreationDate": None} if suffix == ".pdf" else {}
            figure.savefig(temporary, dpi=180, metadata=metadata)


def image(axes: Axes, pixels: np.ndarray, boxes: Sequence[Box] = (), framed: bool = False) -> None:
    """An image (H, W) or (H, W, 3) in [-1, 1], on its axes alone, with boxes around parts of it, or around all."""
    pixels = (pixels + 1) / 2 if pixels.ndim == 3 else pixels  # colours are shown from 0 to 1
    axes.imshow(pixels, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, color=BAD if framed else GUIDE, linewidth=1.6 if framed else 0.4)
    for row, column, height, width in boxes:
        corner = (column - 1.5, row - 1.5)  # a pixel of room; pixel centres are the integers
        axes.add_patch(Rectangle(corner, width + 2, height + 2, fill=False, color=BAD, lw=1.1))
