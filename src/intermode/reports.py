"""A run folder as one self-contained page: ``report.html`` opens from disk and needs no network. Where the run keeps
its samples, the page to look through them (:mod:`intermode.explorer`) lies beside it.

All that is shown stands in ``metrics.json``: a run from elsewhere, or of a study or setting that is gone, opens too.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from intermode.errors import InputError
from intermode.files import read_json, write_text
from intermode.verbs import strict

__all__ = ["by_model", "cells", "interval", "leaderboard", "number", "read_metrics", "report", "write_report"]

PIXELS = 1.7
"""Pixels of a figure to one of the page."""
FIELDS = ("tier", "config", "values", "claims", "figures", "notes")


def number(value: float | int | str | None) -> str:
    """A value as it stands in tables."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}"


def interval(claim: dict[str, Any]) -> str:
    """The measured value of a claim with its interval."""
    if claim["measured"] is None:
        return "–"
    if claim["low"] is None or claim["high"] is None:
        return f"{number(claim['measured'])} (no interval)"
    return f"{number(claim['measured'])} [{number(claim['low'])}, {number(claim['high'])}]"


def leaderboard(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows of a comparison of detectors by model, the best AUROC first."""
    return dict(
        sorted(by_model(sorted((row for row in rows if "auroc" in row), key=lambda row: -row["auroc"])).items())
    )


def by_model(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows of a comparison by target and model, in their order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(f"{row['target']} ({row['model']})", []).append(row)
    return found


def cells(row: dict[str, Any]) -> dict[str, str]:
    """A row as it is shown, its intervals in brackets, by column."""
    shown: dict[str, str] = {}
    for name, value in row.items():
        if name in ("target", "model") or name.removesuffix("_low").removesuffix("_high") != name:
            continue
        ends = {"low": row.get(f"{name}_low"), "high": row.get(f"{name}_high")}
        known = f"{name}_low" in row and value is not None
        text = value if isinstance(value, str) else interval({"measured": value, **ends}) if known else number(value)
        shown[name.replace("_", " ")] = text
    return shown


def read_metrics(folder: Path) -> dict[str, Any]:
    """The metrics of a run folder, with the names that they have today.

    Raises:
        InputError: a folder without a finished run.
    """
    record = folder / "metrics.json"
    if not record.exists():
        raise InputError(f"{folder}: holds no finished run (no metrics.json)")
    found = read_json(record)
    if not isinstance(found, dict) or (missing := [key for key in FIELDS if key not in found]):
        lacking = ", ".join(missing) if isinstance(found, dict) else "everything"
        raise InputError(f"{record}: is not written by a run (lacks {lacking})")
    name = found.get("study", found.get("experiment", folder.name))
    measures = found.get("measures", {})
    defaults = {
        "study": name,
        "summary": "",
        "paper": "–",
        "tier_means": "",
        "seconds": found.get("wall_s", 0.0),
        "command": f"intermode reproduce {name} --tier {found['tier']}",
        "missing": [],
        "rows": [],
        "series": {},
        "seed": None,
        "device": "unknown device",
        "versions": {},
        "commit": None,
    }
    shown = {key: interval({"measured": v["value"], **v} if v["method"] else _bare(v)) for key, v in measures.items()}
    return {**defaults, **found, "shown": {**{k: number(v) for k, v in found["values"].items()}, **shown}}


def _bare(measure: dict[str, Any]) -> dict[str, Any]:
    return {"measured": measure["value"], "low": None, "high": None}


def write_report(folder: Path) -> Path:
    """Write ``report.html`` of a finished run and return its path.

    Raises:
        InputError: a folder without a finished run.
    """
    import jinja2

    metrics = read_metrics(folder)
    images = {}
    for name in metrics["figures"]:
        figure = folder / "figures" / f"{name}.png"
        if not figure.exists():
            raise InputError(f"{figure}: not found; run the study again")
        content = figure.read_bytes()
        # a PNG's width in pixels is at byte 16; one scale for all figures gives all one size of letters
        images[name] = (base64.b64encode(content).decode(), int.from_bytes(content[16:20], "big") / PIXELS)
    films = {
        name: film.read_text(encoding="utf-8")
        for name in metrics["figures"]
        if (film := folder / "figures" / f"{name}.html").exists()
    }
    environment = jinja2.Environment(loader=jinja2.PackageLoader("intermode", "."), autoescape=True)
    environment.filters |= {"interval": interval, "cells": cells}
    page = environment.get_template("report_template.html").render(
        m=metrics,
        images=images,
        films=films,
        leaderboard=leaderboard(metrics["rows"]),
        tables=by_model(row for row in metrics["rows"] if "auroc" not in row),
        explorers=sorted(page.name for page in folder.glob("explorer*.html")),
    )
    path = folder / "report.html"
    write_text(path, page)
    return path


@strict
def report(run: str | Path) -> Path:
    """Write a run's report again, from its metrics and figures alone, and return its path.

    Args:
        run: run folder.

    Raises:
        InputError: a folder without a finished run.
    """
    return write_report(Path(run))
