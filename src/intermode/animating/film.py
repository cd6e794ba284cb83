"""From frames to a file: a GIF, or one page of HTML with a player, which needs no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from intermode.errors import InputError
from intermode.files import replacing, write_text

__all__ = ["Shot", "check_film", "page_of", "write_film"]

COLOURS = 128
SUFFIXES = (".gif", ".html")


@dataclass(frozen=True)
class Shot:
    """A frame.

    Attributes:
        picture: RGB; all of a film have one size.
        seconds: that it is shown.
        words: what it shows, for those who cannot see it.
    """

    picture: Image.Image
    seconds: float
    words: str


def check_film(path: Path) -> None:
    """Raise InputError unless a film can be written to that path."""
    if path.suffix not in SUFFIXES or path.is_dir():
        raise InputError(f"out: {path} must be a file that ends in {' or '.join(SUFFIXES)}")


def write_film(path: Path, title: str, shots: Sequence[Shot]) -> None:
    """Write a film as its suffix says.

    Raises:
        InputError: another suffix.
    """
    check_film(path)
    if path.suffix == ".html":
        write_text(path, page_of(title, shots))
        return
    first, *rest = (_few_colours(shot.picture) for shot in shots)
    with replacing(path) as temporary:
        first.save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=rest,
            duration=[round(1000 * shot.seconds) for shot in shots],
            loop=0,
            optimize=True,
        )


def page_of(title: str, shots: Sequence[Shot]) -> str:
    """The page: all frames in it, with a slider, played as long as each is to be shown."""
    import jinja2

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    width, height = shots[0].picture.size
    frames = [
        {"picture": _packed(shot.picture), "ms": round(1000 * shot.seconds), "words": shot.words} for shot in shots
    ]
    return environment.get_template("page.html").render(title=title, frames=frames, width=width, height=height)


def _few_colours(picture: Image.Image) -> Image.Image:
    # an octree keeps the colour of a thin line, which a median cut merges with another
    return picture.quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def _packed(picture: Image.Image) -> str:
    written = io.BytesIO()
    _few_colours(picture).save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode()
