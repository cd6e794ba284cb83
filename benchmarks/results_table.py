"""Write the tables of README.md from ``results/*/*/metrics.json``: ``make results``.

The text between ``<!-- results -->`` and ``<!-- /results -->`` is replaced; nothing in it is typed by hand.
"""

from __future__ import annotations

from pathlib import Path

from intermode.experiments import EXPERIMENTS
from intermode.files import read_json, write_text
from intermode.report import interval

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- results -->", "<!-- /results -->"
HOLDS = {True: "yes", False: "**no**", None: "not decided"}


def table() -> str:
    """A row for each claim of each experiment and tier."""
    lines = [
        "| experiment (tier) | claim | paper | measured [95 % interval] | holds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in EXPERIMENTS:
        for path in sorted((ROOT / "results" / name).glob("*/metrics.json")):
            metrics = read_json(path)
            for claim in metrics["claims"]:
                link = f"[{name}](results/{name}/{metrics['tier']}) ({metrics['tier']})"
                cells = (link, claim["statement"], claim["paper"], interval(claim), HOLDS[claim["holds"]])
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    write_text(readme, f"{head}{BEGIN}\n{table()}\n{END}{tail}")
    print(f"{readme.name}: results table written")


if __name__ == "__main__":
    main()
