"""Write the table of schedulers into ``docs/watch.md``: ``make schedulers``."""

from __future__ import annotations

from pathlib import Path

from intermode.integrations.schedulers import HANDLED, REFUSED

PAGE = Path(__file__).parents[1] / "docs" / "watch.md"
BEGIN, END = "<!-- schedulers -->\n", "<!-- end of schedulers -->"


def table() -> str:
    rows = ["| scheduler | x0_hat from | window of timesteps |", "| --- | --- | --- |"]
    clocks = {"timesteps": "0..T-1", "sigma": "T σ", "none": "no timesteps"}
    for name in sorted({*HANDLED, *REFUSED}):
        if name in HANDLED:
            rows.append(f"| {name} | {HANDLED[name].how} | {clocks[HANDLED[name].clock]} |")
        else:
            rows.append(f"| {name} | **refused**: {REFUSED[name]} | |")
    return "\n".join(rows) + "\n"


def filled(page: str) -> str:
    before, rest = page.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
