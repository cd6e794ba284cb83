"""The site: furo's theme, markdown pages as they lie in the repository, docstrings with the roles that they use.

Nothing comes from the network, neither when it is built nor when it is read: system fonts, MathML, no scripts from
elsewhere.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import version as installed
from importlib.resources import files
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from sphinx.addnodes import pending_xref, pending_xref_condition
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

project = "intermode"
author = "The intermode developers"
project_copyright = author
version = release = installed("intermode").partition("+")[0]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "mathml"]
root_doc = "index"
add_module_names = False
toc_object_entries_show_parents = "hide"
html_theme = "furo"
html_title = "intermode"
html_static_path = [str(HERE / "static"), str(files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf")]
html_css_files = ["style.css"]
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]
"""As arguments are shown: otherwise each name becomes a link to whatever else is called so."""

nitpicky = True


def escape(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """``(n, *shape)`` is a shape, and its star begins no emphasis."""
    lines[:] = [re.sub(r"(?<![*`\\\w])(\*{1,2})(?=\w[\w.]*[),])", r"\\\1", line) for line in lines]
    if what in ("attribute", "property", "data"):
        app.prose = list(lines)


def restore(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Napoleon takes what stands before the first colon of a property's docstring for its type."""
    if what in ("attribute", "property", "data"):
        lines[:] = app.prose


def resolve(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """A name of this package by its end, as docstrings write it (``TrainConfig``, ``repair``), where only one ends so.

    Public things are described under ``intermode`` and not where they are defined, which a full name finds here too. A
    type of a signature that is not described, such as one of another package, leads nowhere; what prose names must be.
    """
    wanted = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not wanted:
        return None
    objects = env.get_domain("py").objects
    parts = wanted.split(".")
    public = [name for n in (1, 2) if (name := ".".join([project, *parts[-n:]])) in objects]
    ending = [] if parts[0] == project else [name for name in objects if name.endswith(f".{wanted}")]
    for found in (public, ending):
        if len(found) == 1:
            entry = objects[found[0]]
            return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, found[0])
    in_prose = "refexplicit" in node
    return None if in_prose and not any(map(there, (wanted, f"{node.get('py:module')}.{wanted}"))) else contnode


def there(name: str) -> bool:
    """Whether there is something of that full name."""
    parent, _, last = name.rpartition(".")
    try:
        thing = resolve_name(parent)
    except (ImportError, AttributeError, ValueError):
        return False
    return hasattr(thing, last) or last in getattr(thing, "__annotations__", {})


class Ambiguous(SphinxPostTransform):
    """A short name that two modules have, in a signature of a third: no link is better than one of the two."""

    default_priority = 5  # before references are resolved

    def run(self, **kwargs: Any) -> None:
        objects = self.env.get_domain("py").objects
        for node in list(self.document.findall(pending_xref)):
            name, module = node.get("reftarget", ""), node.get("py:module")
            near = (f"{module}.{name}", f"{module}.{node.get('py:class')}.{name}", f"{project}.{name}")
            if node.get("refdomain") != "py" or "." in name or any(full in objects for full in near):
                continue
            if sum(full.endswith(f".{name}") for full in objects) > 1:
                short = [part for part in node if isinstance(part, pending_xref_condition)]
                node.replace_self((short[0] if short else node).children)


def setup(app: Any) -> None:
    app.add_post_transform(Ambiguous)
    app.connect("autodoc-process-docstring", escape, priority=400)  # napoleon's is 500
    app.connect("autodoc-process-docstring", restore, priority=600)
    app.connect("missing-reference", resolve)
