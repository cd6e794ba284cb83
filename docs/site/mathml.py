"""Mathematics as MathML, which browsers draw themselves: the site needs neither network nor script nor LaTeX for it.

Browsers read less than the converter writes: a letter of another alphabet must be that character, and what stands alone
must be told not to stretch.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

BARS = "<mo>&#x02016;</mo>"


def mathml(tex: str, display: str) -> str:
    """A formula of LaTeX as an element of HTML."""
    tex = re.sub(r"\\(mathbb|mathcal|mathbf|mathrm)\s+(\w)", r"\\\1{\2}", tex)
    upright = BARS.replace("<mo>", '<mo stretchy="false" lspace="0" rspace="0">')
    made: str = convert(tex, display=display)
    return made.replace(BARS, upright)


def visit(self: Any, node: nodes.Element) -> None:
    self.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def visit_block(self: Any, node: nodes.Element) -> None:
    self.body.append(f'<div class="math">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (visit, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
