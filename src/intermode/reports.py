"""A run folder as one self-contained page: ``report.html`` opens from disk and needs no network."""

from __future__ import annotations

import base64
import json
import shlex
from pathlib import Path
from typing import Any

from intermode.errors import InputError
from intermode.experiments import TIERS, find
from intermode.files import read_json, write_text

__all__ = ["command", "interval", "number", "write_report"]

PIXELS = 1.7
"""Pixels of a figure to one of the page."""
FIELDS = (
    *("experiment", "tier", "seed", "device", "versions", "commit", "wall_s"),
    *("config", "values", "claims", "figures", "notes"),
)


def number(value: float | int | None) -> str:
    """A value as it stands in tables."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}"


def interval(claim: dict[str, Any]) -> str:
    """The measured value of a claim with its interval."""
    if claim["measured"] is None:
        return "–"
    if claim["low"] is None or claim["high"] is None:
        return number(claim["measured"])
    return f"{number(claim['measured'])} [{number(claim['low'])}, {number(claim['high'])}]"


def command(metrics: dict[str, Any]) -> str:
    """The command that makes a run again: the tier's settings and whatever differs from them."""
    tier = find(metrics["experiment"]).load().TIERS[metrics["tier"]]
    words = ["intermode", "reproduce", metrics["experiment"], "--tier", metrics["tier"]]
    for name, value in metrics["config"].items():
        default = json.loads(json.dumps(getattr(tier, name)))
        value = json.loads(json.dumps(value))
        if value == default:
            continue
        words += _words(f"--{name.replace('_', '-')}", value)
    return shlex.join(words)


def _words(flag: str, value: Any) -> list[str]:
    """A setting as the command line takes it."""
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if not isinstance(value, list):
        return [flag, str(value)]
    return [flag, *(",".join(map(str, v)) if isinstance(v, list) else str(v) for v in value)]


def leaderboard(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows of a comparison by model, the best AUROC first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: -row["auroc"]):
        found.setdefault(f"{row['target']} ({row['model']})", []).append(row)
    return dict(sorted(found.items()))


def write_report(folder: Path) -> Path:
    """Write ``report.html`` of a finished run and return its path.

    Raises:
        InputError: a folder without a finished run.
    """
    import jinja2

    if not (folder / "metrics.json").exists():
        raise InputError(f"{folder}: holds no finished run (no metrics.json)")
    metrics = read_json(folder / "metrics.json")
    if not isinstance(metrics, dict) or (missing := [key for key in FIELDS if key not in metrics]):
        lacking = ", ".join(missing) if isinstance(metrics, dict) else "everything"
        raise InputError(f"{folder / 'metrics.json'}: is not written by a run (lacks {lacking})")
    images = {}
    for name in metrics["figures"]:
        figure = folder / "figures" / f"{name}.png"
        if not figure.exists():
            raise InputError(f"{figure}: not found; run the experiment again")
        content = figure.read_bytes()
        # a PNG's width in pixels is at byte 16; one scale for all figures gives all one size of letters
        images[name] = (base64.b64encode(content).decode(), int.from_bytes(content[16:20], "big") / PIXELS)
    environment = jinja2.Environment(loader=jinja2.PackageLoader("intermode", "."), autoescape=True)
    environment.filters |= {"interval": interval, "number": number}
    page = environment.get_template("report_template.html").render(
        m=metrics,
        entry=find(metrics["experiment"]),
        tiers=TIERS,
        images=images,
        command=command(metrics),
        leaderboard=leaderboard(metrics.get("rows", [])),
    )
    path = folder / "report.html"
    write_text(path, page)
    return path
