"""Write the tables of README.md from ``results/*/*/metrics.json``: ``make results``.

The text between ``<!-- results -->`` and ``<!-- /results -->`` is replaced, and so is that of ``leaderboard``; nothing
in it is typed by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from intermode.experiments import EXPERIMENTS
from intermode.files import read_json, write_text
from intermode.report import interval, leaderboard

ROOT = Path(__file__).resolve().parents[1]
HOLDS = {True: "yes", False: "**no**", None: "not decided"}


def table() -> str:
    """A row for each claim of each experiment and tier."""
    lines = [
        "| experiment (tier) | claim | paper | measured [95 % interval] | holds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in EXPERIMENTS:
        if name == "bench":  # it has a table of its own
            continue
        for path in sorted((ROOT / "results" / name).glob("*/metrics.json")):
            metrics = read_json(path)
            for claim in metrics["claims"]:
                link = f"[{name}](results/{name}/{metrics['tier']}) ({metrics['tier']})"
                cells = (link, claim["statement"], claim["paper"], interval(claim), HOLDS[claim["holds"]])
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def auroc(row: dict[str, Any] | None) -> str:
    """With its interval."""
    return f"{row['auroc']:.4f} [{row['auroc_low']:.3f}, {row['auroc_high']:.3f}]" if row else "–"


def leaders() -> str:
    """A row for each detector, its AUROC on each model, of the largest tier that was run."""
    found = [ROOT / "results" / "bench" / tier / "metrics.json" for tier in ("paper", "quick")]
    if not (path := next((path for path in found if path.exists()), None)):
        return "Not measured yet."
    metrics = read_json(path)
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
        cells = [
            f"{row['auroc']:.4f} [{row['auroc_low']:.3f}, {row['auroc_high']:.3f}]" if row else "–"
            for row in of.values()
        ]
        rank = f"{ranks[name]:.2f}" if name in ranks else "–"
        cost = f"{nfe[0]}" if len(nfe) == 1 else f"{nfe[0]}–{nfe[-1]}"
        lines.append("| " + " | ".join([f"`{name}`", rank, cost, *cells]) + " |")
    notes = " ".join(metrics["notes"])
    return "\n".join([*lines, "", f"AUROC [95 % interval], tier {metrics['tier']}. {notes}"])


def replaced(text: str, name: str, content: str) -> str:
    """The text with what stands between the markers of that name replaced."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if begin not in text:
        return text
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{content}\n{end}{tail}"


def main() -> None:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    for name, content in (("results", table()), ("leaderboard", leaders())):
        text = replaced(text, name, content)
    write_text(readme, text)
    print(f"{readme.name}: tables written")


if __name__ == "__main__":
    main()
