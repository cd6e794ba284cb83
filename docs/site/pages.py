"""Lay out what the site is made of, in ``build/site-source``: the pages of the repository, a page for each study whose
runs are kept, and the reference. Everything is written from what is there: no page has a number or a name of its own.

The pages of the repository are markdown with links that work in a file browser; here they are turned to where things
lie on the site. Run by ``make docs``.
"""

from __future__ import annotations

import base64
import inspect
import os
import pkgutil
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import intermode
from intermode.files import read_json
from intermode.reports import PIXELS, by_model, cells, interval, read_metrics
from intermode.studies import STUDIES, find

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "build" / "site-source"
NAVIGATION = {
    "Use it": ("start", "watch", "explore", "detectors", "explain", "animate", "windows-and-repair", "synthetic"),
    "What was found": ("findings", "mitigations", "results"),
    "Go further": ("examples", "extend", "many-machines", "tested", "contributing", "changelog"),
}
"""Pages by chapter; one that is not there is left out, one that is not named here comes last."""
REFERENCE = {
    "Data and schedules": ("targets.", "schedules"),
    "Samplers": ("samplers", "restart"),
    "Detectors and windows": ("detect.",),
    "What functions take and return": ("",),
}
"""Pages of the reference after that of the functions: what modules that begin so have, on the first that fits."""
TIERS = ("paper", "long", "quick")
HOLDS = {True: "yes", False: "**no**", None: "not decided"}


def target(page: Path, link: str) -> str:
    """Where a link of a repository's page leads on the site, which has pages for folders of results and for modules."""
    there, _, anchor = link.partition("#")
    if not there or re.match(r"\w+:", there):
        return link
    path = Path(os.path.normpath(page.parent / there)).relative_to(ROOT)
    anchor = f"#{anchor}" if anchor else ""
    if path.parts[0] == "results" and len(path.parts) == 3:
        return f"results/{path.parts[1]}.md#{path.parts[1]}-{path.parts[2]}"
    if path.parts[:2] == ("src", "intermode"):
        return f"/api/modules/{'.'.join(path.with_suffix('').parts[1:])}.rst"
    if path.parts[0] == "examples":
        return "examples.md" if path.suffix == ".md" else f"#{path.stem}"
    if path.parts[0] == "docs":
        return "/".join(path.parts[1:]) + anchor
    if path.name == "README.md":
        return "index.md" + anchor
    return (path.name.lower() if path.suffix == ".md" else path.as_posix()) + anchor


def page(path: Path) -> str:
    """A page of the repository for the site: without the marks of its tables, its links turned."""
    text = re.sub(r"<!--.*?-->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    parts = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)  # code is left alone
    return "".join(
        part if part.startswith("```") else re.sub(r"\]\(([^)\s]+)\)", lambda m: f"]({target(path, m[1])})", part)
        for part in parts
    )


def repository() -> dict[str, str]:
    """The pages by name: those of ``docs``, and those at the top that a forge shows."""
    found = {path.stem: page(path) for path in sorted((ROOT / "docs").glob("*.md"))}
    found["examples"] = "\n".join([page(ROOT / "examples" / "README.md"), *examples()])
    return {**found, **{name.lower(): page(ROOT / f"{name}.md") for name in ("CONTRIBUTING", "CHANGELOG")}}


def examples() -> list[str]:
    """The notebook with what its cells gave, and the scripts."""
    lines = []
    for path in sorted((ROOT / "examples").glob("*.ipynb")):
        lines += [f"({path.stem})=", ""]  # it has a title of its own
        for number, cell in enumerate(read_json(path)["cells"]):
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                lines += [re.sub(r"^#", "##", source, flags=re.MULTILINE), ""]
                continue
            lines += ["```python", source, "```", ""]
            for output in cell["outputs"]:
                data = output.get("data", {})
                if "image/png" in data:
                    name = f"examples/{path.stem}-{number}.png"
                    put(SOURCE / name, base64.b64decode("".join(data["image/png"])))
                    lines += [f"![What the cell above shows]({name})", ""]
                elif text := "".join(output.get("text", data.get("text/plain", ""))):
                    lines += ["```text", text.rstrip(), "```", ""]
    for path in sorted((ROOT / "examples").glob("*.py")):
        lines += [
            f"({path.stem})=",
            "",
            f"## {path.name}",
            "",
            "```python",
            path.read_text(encoding="utf-8"),
            "```",
            "",
        ]
    return lines


def start(pages: dict[str, str]) -> str:
    """The first page: the README, and the navigation."""
    named = [name for names in NAVIGATION.values() for name in names]
    chapters = {title: [name for name in names if name in pages] for title, names in NAVIGATION.items()}
    chapters["Go further"] += [name for name in pages if name not in named]
    chapters["Reference"] = ["api/index"]
    trees = []
    for title, names in chapters.items():
        trees += ["```{toctree}", ":hidden:", f":caption: {title}", "", *names, "```", ""]
    return page(ROOT / "README.md") + "\n" + "\n".join(trees)


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Of markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


def folded(title: str, lines: list[str]) -> list[str]:
    """Shown on a click."""
    return ["<details>", f"<summary>{title}</summary>", "", *lines, "", "</details>", ""]


def run(folder: Path) -> list[str]:
    """A kept run: its claims, figures, values, and what made it."""
    m = read_metrics(folder)
    where = folder.relative_to(ROOT).as_posix()
    lines = [f"({m['study']}-{m['tier']})=", f"## Tier {m['tier']}", ""]
    lines += [*(f"{said}: {m['tier_means']}." for said in ["This run"] if m["tier_means"]), ""]
    rows = [[c["statement"], c["paper"], unbroken(interval(c)), HOLDS[claim_holds(c)]] for c in m["claims"]]
    lines += [*table(["claim", "paper", "measured [95 % interval]", "holds"], rows), ""]
    for note in m["notes"]:
        lines += [note, ""]
    for name, caption in m["figures"].items():
        content = (folder / "figures" / f"{name}.png").read_bytes()
        width = int.from_bytes(content[16:20], "big") / PIXELS  # as in a report: one size of letters
        options = [f":alt: {name}", f":width: {width:.0f}px"]
        lines += [f"```{{figure}} /{where}/figures/{name}.png", *options, "", caption, "```", ""]
    for model, found in by_model(m["rows"]).items():
        shown = [cells(row) for row in found]
        header = list(dict.fromkeys(key for row in shown for key in row))
        rows = [[row.get(key, "–") for key in header] for row in shown]
        lines += folded(f"All numbers of {model}", table(header, rows))
    if m["shown"]:
        lines += folded("All values", table(["value", "measured"], [[f"`{k}`", v] for k, v in m["shown"].items()]))
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    lines += ["```sh", m["command"], "```", ""]
    lines += [f"Seed {m['seed']}; {m['device']}; commit {m['commit'] or 'unknown'}; {versions}.", ""]
    return lines


def unbroken(text: str) -> str:
    """On one line."""
    return text.replace(" ", "\N{NO-BREAK SPACE}").replace("-", "-\N{WORD JOINER}")


def claim_holds(claim: dict[str, Any]) -> bool | None:
    """A claim without an interval is not decided."""
    return None if claim["low"] is None or claim["high"] is None else claim["holds"]


def studies() -> dict[str, str]:
    """A page for each study of which a run is kept, the largest tier first."""
    found = {}
    for name in STUDIES:
        folders = [path for tier in TIERS if (path := ROOT / "results" / name / tier).joinpath("metrics.json").exists()]
        if folders:
            study = find(name)
            lines = [f"# {name}", "", f"{study.summary}."]
            lines += [f"Of the paper: {study.figures}.", ""] if study.figures != "–" else [""]
            found[name] = "\n".join([*lines, *(line for folder in folders for line in run(folder))])
    return found


def public() -> dict[str, list[str]]:
    """The public names by page of the reference."""
    home = {name: module for module, names in intermode._HOME.items() for name in names}
    verbs = [name for name in intermode.__all__ if hasattr(getattr(intermode, name), "__wrapped__")]
    pages: dict[str, list[str]] = {"Functions": verbs, **{title: [] for title in REFERENCE}}
    for name in intermode.__all__:
        if name not in verbs:
            title = next(t for t, begins in REFERENCE.items() if any(home[name].startswith(b) for b in begins))
            pages[title].append(name)
    return pages


def headline(title: str, mark: str = "=") -> list[str]:
    """Of reStructuredText."""
    return [title, mark * len(title), ""]


def first_sentence(thing: Any) -> str:
    """Of a docstring."""
    said = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
    return re.split(r"(?<=[\w)]\.)\s(?=[A-Z])", said)[0]


def reference() -> dict[str, str]:
    """The public names, by kind; then every module with its mathematics."""
    found, names = {}, public()
    listed = [f"{i.name}" for i in pkgutil.walk_packages(intermode.__path__, "intermode.") if "__main__" not in i.name]
    shown: dict[str, list[str]] = {}
    for title, things in names.items():
        slug = title.lower().replace(" ", "-")
        lines = [*headline(title), ".. py:currentmodule:: intermode", ""]
        for name in things:
            thing = getattr(intermode, name)
            shown.setdefault(thing.__module__, []).append(name)
            kind = "autoclass" if inspect.isclass(thing) else "autofunction"
            lines += [
                *headline(name, "-"),
                f".. {kind}:: intermode.{name}",
                *([] if kind == "autofunction" else MEMBERS),
            ]
            lines.append("")
        found[f"api/{slug}"] = "\n".join(lines)
    for module in listed:
        here = import_module(module)
        own = {name: getattr(here, name) for name in getattr(here, "__all__", ())}
        elsewhere = [name for name, thing in own.items() if home(thing, module) != module]
        lines = [*headline(module), f".. automodule:: {module}", "   :members:"]
        if left_out := [*elsewhere, *shown.get(module, [])]:
            lines += [f"   :exclude-members: {', '.join(left_out)}", ""]
            lines += ["Described elsewhere: " + ", ".join(f":py:obj:`{where(own, name)}`" for name in left_out) + "."]
        found[f"api/modules/{module}"] = "\n".join([*lines, ""])
    index = [*headline("Reference"), inspect.getdoc(intermode).partition("\n\n")[2], ""]
    for title, things in names.items():
        slug = title.lower().replace(" ", "-")
        index += [*headline(title, "-"), ".. list-table::", "   :widths: 25 75", ""]
        for name in things:
            index += [f"   * - :py:obj:`~intermode.{name}`", f"     - {first_sentence(getattr(intermode, name))}"]
        index += ["", ".. toctree::", "   :hidden:", "", f"   {slug}", ""]
    index += [
        *headline("For experts", "-"),
        "Each module opens with the mathematics that it implements, and its source.",
        "",
    ]
    index += [".. list-table::", "   :widths: 35 65", ""]
    for module in listed:
        index += [f"   * - :py:mod:`{module}`", f"     - {first_sentence(import_module(module)) or '–'}"]
    found["api/index"] = "\n".join([*index, "", ".. toctree::", "   :hidden:", "", "   modules", ""])
    tree = [f"   modules/{module}" for module in listed]
    found["api/modules"] = "\n".join([*headline("Modules"), ".. toctree::", "   :maxdepth: 1", "", *tree, ""])
    return found


def home(thing: Any, here: str) -> str:
    """The module that describes a class or function which this one offers too."""
    made = getattr(thing, "__module__", None) or here
    if not hasattr(thing, "__qualname__") or not made.startswith("intermode."):
        return here
    return made if thing.__name__ in getattr(import_module(made), "__all__", ()) else here


def where(own: dict[str, Any], name: str) -> str:
    """The full name under which a thing is described."""
    return f"intermode.{name}" if name in intermode.__all__ else f"{own[name].__module__}.{name}"


def put(path: Path, content: bytes) -> None:
    """A file, which is left alone where it has this content: what has not changed is not made again."""
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


MEMBERS = ["   :members:", "   :inherited-members: tuple, Exception"]


def main() -> None:
    kept, pages = studies(), repository()
    tree = ["```{toctree}", ":hidden:", "", *(f"results/{name}" for name in kept), "```"]
    pages["results"] += "\n" + "\n".join(tree) + "\n"
    texts = {"index": start(pages), **pages, **{f"results/{name}": text for name, text in kept.items()}}
    found = {f"{name}.md": text.encode() for name, text in texts.items()}
    found |= {f"{name}.rst": text.encode() for name, text in reference().items()}
    for figure in [*(ROOT / "docs" / "figures").iterdir(), *(ROOT / "results").glob("*/*/figures/*.png")]:
        found[figure.relative_to(ROOT).as_posix().removeprefix("docs/")] = figure.read_bytes()
    for path in SOURCE.rglob("*.*"):
        name = path.relative_to(SOURCE).as_posix()
        if path.is_file() and name not in found and not name.startswith("examples/"):
            path.unlink()
    for name, content in found.items():
        put(SOURCE / name, content)


if __name__ == "__main__":
    main()
