"""Write the tables of README.md and the documentation from ``results/*/*/metrics.json``: ``make results``.

The text between ``<!-- results -->`` and ``<!-- /results -->`` is replaced, and so are those of the other tables. A
single value, that of the largest tier that has it, stands between ``<!-- =study/name -->`` and ``<!-- / -->``. Nothing
in them is typed by hand.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from intermode.detect.registry import DEFAULTS
from intermode.errors import InputError
from intermode.files import read_json, write_text
from intermode.reports import by_model, interval, leaderboard, read_metrics
from intermode.studies import STUDIES

ROOT = Path(__file__).resolve().parents[1]
TIERS = ("paper", "long", "quick")
"""The largest first."""
HOLDS = {True: "yes", False: "**no**", None: "not decided"}


def holds(claim: dict[str, Any]) -> bool | None:
    """Whether a claim holds; one without an interval, as the first version's runs have some, is not decided."""
    return None if claim["low"] is None or claim["high"] is None else claim["holds"]


def table() -> str:
    """A row for each claim of each experiment and tier."""
    lines = [
        "| experiment (tier) | claim | paper | measured [95 % interval] | holds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in STUDIES:
        if name == "bench":  # it has a table of its own
            continue
        for path in sorted((ROOT / "results" / name).glob("*/metrics.json")):
            metrics = read_json(path)
            for claim in metrics["claims"]:
                link = f"[{name}](results/{name}/{metrics['tier']}) ({metrics['tier']})"
                cells = (link, claim["statement"], claim["paper"], interval(claim), HOLDS[holds(claim)])
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


HEADLINE = (
    ("gaussian-1d", "interpolation"),
    ("origin", "target-noise"),
    ("gaussian-1d", "detection"),
    ("recursion-2d", "filter-5"),
    ("shapes", "duplicates-paper"),
)
"""Claims that the README shows."""
CHOICE = {
    "lid": "finished samples, no training data: the default of `score`",
    "hal": "while samples are made, free: the paper's; default of `sample` and `watch`",
    "knn": "training data at hand, few numbers",
}
"""Detectors that the README shows, and what for."""
MENDED = ("ancestral", "resample by lid", "late restart", "selective repair by lid")
"""Mitigations that the README shows."""


def headline() -> str:
    """A row for each of the chosen claims, of the largest tier that is kept."""
    lines = ["| study (tier) | claim | measured [95 % interval] | holds |", "| --- | --- | --- | --- |"]
    for study, wanted in HEADLINE:
        found = [ROOT / "results" / study / tier / "metrics.json" for tier in TIERS]
        metrics = read_json(next(path for path in found if path.exists()))
        claim = next(claim for claim in metrics["claims"] if claim["id"] == wanted)
        link = f"[{study}](results/{study}/{metrics['tier']}) ({metrics['tier']})"
        lines.append("| " + " | ".join((link, claim["statement"], interval(claim), HOLDS[holds(claim)])) + " |")
    return "\n".join(lines)


def choice(metrics: dict[str, Any]) -> str:
    """A row for each of the chosen detectors: its AUROC on a well-trained 1-D model and on images."""
    shown = {"gaussian-1d (well)": "1-D mixture", "shapes-off-support (well)": "images of shapes"}
    by_model = leaderboard(metrics["rows"])
    lines = [
        f"| detector | when | evaluations | {' | '.join(f'AUROC, {words}' for words in shown.values())} |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for name, when in CHOICE.items():
        rows = [next((row for row in by_model.get(model, []) if row["detector"] == name), None) for model in shown]
        nfe = next((str(row["nfe"]) for row in rows if row), "–")
        lines.append("| " + " | ".join([f"`{name}`", when, nfe, *map(auroc, rows)]) + " |")
    said = f"Tier {metrics['tier']}, settings chosen on labels of other samples; 95 % intervals."
    return "\n".join([*lines, "", said])


def auroc(row: dict[str, Any] | None, key: str = "auroc") -> str:
    """With its interval."""
    if row is None or row.get(key) is None:
        return "–"
    return f"{row[key]:.4f} [{row[f'{key}_low']:.3f}, {row[f'{key}_high']:.3f}]"


def measured(study: str = "bench") -> dict[str, Any] | None:
    """The largest tier that was run."""
    found = [ROOT / "results" / study / tier / "metrics.json" for tier in TIERS]
    path = next((path for path in found if path.exists()), None)
    return read_json(path) if path else None


def leaders(metrics: dict[str, Any]) -> str:
    """A row for each detector, its AUROC on each model."""
    by_model = leaderboard(metrics["rows"])
    names = list(dict.fromkeys(row["detector"] for rows in by_model.values() for row in rows))
    ranks = metrics["series"].get("mean_rank", {})
    names.sort(key=lambda name: ranks.get(name, float("inf")))
    lines = [
        "| detector | mean rank | NFE | " + " | ".join(by_model) + " |",
        "| --- | ---: | ---: |" + " ---: |" * len(by_model),
    ]
    for name in names:
        of = {model: next((row for row in rows if row["detector"] == name), None) for model, rows in by_model.items()}
        nfe = sorted({row["nfe"] for row in of.values() if row})
        rank = f"{ranks[name]:.2f}" if name in ranks else "–"
        cost = f"{nfe[0]}" if len(nfe) == 1 else f"{nfe[0]}–{nfe[-1]}"
        lines.append("| " + " | ".join([f"`{name}`", rank, cost, *map(auroc, of.values())]) + " |")
    notes = " ".join(metrics["notes"])
    return "\n".join([*lines, "", f"AUROC [95 % interval], tier {metrics['tier']}. {notes}"])


def percent(row: dict[str, Any], key: str) -> str:
    """A share with its interval."""
    if key not in row:  # kept before it was measured
        return "–"
    return f"{100 * row[key]:.1f} [{100 * row[f'{key}_low']:.1f}, {100 * row[f'{key}_high']:.1f}]"


def details(metrics: dict[str, Any]) -> str:
    """For each model, a row for each detector; then what conformal thresholds keep."""
    parts = [f"Tier {metrics['tier']}; 95 % intervals in brackets. Removed: per cent of the hallucinations."]
    for model, rows in leaderboard(metrics["rows"]).items():
        parts += [
            f"\n### {model}\n",
            f"{rows[0]['hallucinated']} hallucinated and {rows[0]['in_support']} other samples in the test half.\n",
            "| detector | settings | chosen | AUROC | at equal content | removed at 95 % kept | at 98 % | at 99 % "
            "| at 99.9 % | NFE | time / sampling |",
            "| --- | --- | --- |" + " ---: |" * 8,
        ]
        for row in rows:
            told = [f"`{row['detector']}`", row["settings"], row.get("tuned", "on the validation half")]
            removed = [percent(row, f"removed_at_{kept}_kept") for kept in ("95", "98", "99", "99_9")]
            cost = [f"{row['nfe']}", f"{100 * row['relative_time']:.2g} %"]
            parts.append("| " + " | ".join([*told, auroc(row), auroc(row, "matched_auroc"), *removed, *cost]) + " |")
    parts += [
        "\n### Conformal thresholds\n",
        "Fitted on scores of real data that no model was trained on, without a label: the default detector, the "
        "paper's and the best of each model. Kept and removed in per cent; intervals of both samples, that which fits "
        "the threshold and that which is looked at.\n",
        "| model | detector | α | unseen real data kept | in-support samples kept | hallucinations removed |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    conformal = metrics["series"].get("conformal", [])
    scored = {(c["source"], c["detector"]) for c in conformal}
    best: dict[str, str] = {}
    for row in sorted(metrics["rows"], key=lambda row: -row["auroc"]):
        source = f"{row['target']}-{row['model']}"
        if (source, row["detector"]) in scored:
            best.setdefault(source, row["detector"])
    always = {DEFAULTS["finished"], "hal-renoise"}
    for found in (c for c in conformal if c["detector"] in always | {best[c["source"]]}):
        shown = [
            f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
            for value, low, high in (found[key] for key in ("real_kept", "in_support_kept", "removed"))
        ]
        cells = [found["source"], f"`{found['detector']}`", f"{found['alpha']:g}", *shown]
        parts.append("| " + " | ".join(cells) + " |")
    return "\n".join(parts)


def mitigations(metrics: dict[str, Any]) -> str:
    """For each set of models that share their settings, a row for each mitigation: what it leaves on each, and what it
    costs at worst."""
    shared: dict[tuple[tuple[str, str], ...], list[str]] = {}
    models = by_model(row for row in metrics["rows"] if "width_change" in row)
    for name, rows in models.items():
        shared.setdefault(tuple(sorted((row["method"], row["settings"]) for row in rows)), []).append(name)
    parts = [f"Tier {metrics['tier']}; 95 % intervals of samples, or the difference of two grids, in brackets."]
    for names in shared.values():
        short = [re.sub(" of standard deviation [^ ]*", "", name) for name in names]
        parts += [
            "",
            "| mitigation | settings | more evaluations | more time | "
            + " | ".join(f"off the support: {name}" for name in short)
            + " | weights: KL | widths: change | thrown away |",
            "| --- | --- | ---: | ---: |" + " ---: |" * (len(names) + 3),
        ]
        for first in models[names[0]]:
            rows = [next(row for row in models[name] if row["method"] == first["method"]) for name in names]
            cells = [
                first["method"],
                first["settings"] or "–",
                *(f"{100 * max(row[key] for row in rows):.2g} %" for key in ("more_evaluations", "more_time")),
                *(f"{row['after']:.2e} [{row['after_low']:.2e}, {row['after_high']:.2e}]" for row in rows),
                f"{max(row['divergence'] for row in rows):.1e}",
                f"{100 * max((row['width_change'] for row in rows), key=abs):+.1f} %",
                f"{100 * max(row['thrown_away'] for row in rows):.2g} %",
            ]
            parts.append("| " + " | ".join(cells) + " |")
    return "\n".join(parts + mitigated_images(metrics))


def mended(metrics: dict[str, Any]) -> str:
    """A row for each of the chosen mitigations: what it leaves of the well-trained models on which settings are chosen,
    and what it costs at most."""
    shown = {"Gaussians at 1, 2, 3": "1-D mixture", "grid": "grid", "shapes": "shapes"}
    models = by_model(row for row in metrics["rows"] if row["model"] == "well")
    found = {words: next((models[m] for m in models if m.startswith(name)), []) for name, words in shown.items()}
    lines = [
        "| off the support, ‰ | more evaluations | " + " | ".join(found) + " |",
        "| --- | ---: |" + " ---: |" * len(found),
    ]
    for method in MENDED:
        rows = [next((row for row in rows if row["method"] == method), None) for rows in found.values()]
        if not any(rows):
            continue
        more = [100 * row["more_evaluations"] for row in rows if row]
        cost = f"{min(more):.2g}–{max(more):.2g} %" if max(more) - min(more) > 0.1 else f"{max(more):.2g} %"
        left = [
            f"{1000 * row['after']:.3g} [{1000 * row['after_low']:.3g}, {1000 * row['after_high']:.3g}]" if row else "–"
            for row in rows
        ]
        lines.append("| " + " | ".join([method, cost, *left]) + " |")
    return "\n".join([*lines, "", f"Tier {metrics['tier']}, 95 % intervals."])


KINDS = {"duplicate": "two of a kind", "between_places": "between places", "deformed": "deformed", "blank": "blank"}
"""Columns of images off the support."""


def mitigated_images(metrics: dict[str, Any]) -> list[str]:
    """The same for each model of images, with what is off the support by kind, in per cent of the images."""
    parts = []
    for name, rows in by_model(row for row in metrics["rows"] if "shapes_change" in row).items():
        parts += [
            "",
            f"| mitigation, {name} | settings | more evaluations | more time | off the support, % | "
            + " | ".join(f"{words}, %" for words in KINDS.values())
            + " | patterns: KL | shapes: change | thrown away |",
            "| --- | --- | ---: | ---: | ---: |" + " ---: |" * (len(KINDS) + 3),
        ]
        for row in rows:
            cells = [
                row["method"],
                row["settings"] or "–",
                *(f"{100 * row[key]:.2g} %" for key in ("more_evaluations", "more_time")),
                percent(row, "after"),
                *(f"{100 * row[kind]:.1f}" for kind in KINDS),
                f"{row['divergence']:.1e}",
                f"{100 * row['shapes_change']:+.1f} %",
                f"{100 * row['thrown_away']:.2g} %",
            ]
            parts.append("| " + " | ".join(cells) + " |")
    return parts


JUDGED = {
    "against_all": "against all others",
    "against_good": "against good ones",
    "at_equal_shapes": "with as many shapes",
    "given_white": "given white pixels",
}
"""Columns of the scores of images."""


def image_scores(metrics: dict[str, Any]) -> str:
    """For each kind of error, a row for each score of finished images: AUROC, judged in all ways."""
    parts = [f"Tier {metrics['tier']}, AUROC with 95 % intervals; removed: per cent, among images with as many shapes."]
    for target in dict.fromkeys(row["target"] for row in metrics["rows"]):
        parts += [
            "",
            f"| {target}: score | at | tuned on labels | {' | '.join(JUDGED.values())} | removed at 95 % kept |",
            "| --- | --- | --- |" + " ---: |" * (len(JUDGED) + 1),
        ]
        rows = [row for row in metrics["rows"] if row["target"] == target]
        for row in sorted(rows, key=lambda row: -(row["at_equal_shapes"] or 0)):
            cells = [row["score"], row["at"] or "–", row["tuned on labels"], *(auroc(row, key) for key in JUDGED)]
            parts.append(
                "| " + " | ".join([*cells, percent(row, "removed") if row["removed"] is not None else "–"]) + " |"
            )
    return "\n".join(parts)


def replaced(text: str, name: str, content: str) -> str:
    """The text with what stands between the markers of that name replaced."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if begin not in text:
        return text
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{content}\n{end}{tail}"


VALUE = re.compile(r"<!-- =([\w-]+)/([\w-]+?) -->.*?<!-- / -->", re.DOTALL)


def with_values(text: str) -> str:
    """The text with each single value as it is kept, its interval and tier behind it.

    Raises:
        InputError: no kept run has it.
    """

    def value(match: re.Match[str]) -> str:
        study, name = match.groups()
        for tier in TIERS:
            path = ROOT / "results" / study / tier
            if (path / "metrics.json").exists() and name in (shown := read_metrics(path)["shown"]):
                return f"<!-- ={study}/{name} -->{shown[name]} ({tier})<!-- / -->"
        raise InputError(f"{study}: no kept run holds the value {name}")

    return VALUE.sub(value, text)


def contents() -> dict[str, str]:
    """What stands between the markers of each name."""
    metrics, treated, images = measured(), measured("mitigations"), measured("shapes")
    return {
        "headline": headline(),
        "choice": choice(metrics) if metrics else "Not measured yet.",
        "results": table(),
        "leaderboard": leaders(metrics) if metrics else "Not measured yet.",
        "benchmark": details(metrics) if metrics else "Not measured yet.",
        "mitigations": mitigations(treated) if treated else "Not measured yet.",
        "image-scores": image_scores(images) if images else "Not measured yet.",
        "mended": mended(treated) if treated else "Not measured yet.",
    }


def main() -> None:
    written = contents()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        up = "../" if path.parent.name == "docs" else ""  # links are relative to the file
        for name, content in written.items():
            text = replaced(text, name, content.replace("](results/", f"]({up}results/"))
        write_text(path, with_values(text))
        print(f"{path.name}: tables written")


if __name__ == "__main__":
    main()
