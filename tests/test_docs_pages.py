"""docs/start.md and docs/synthetic.md run as they are written and say what was measured; docs/tested.md names tests."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from intermode.cli import main

ROOT = Path(__file__).parents[1]


def text(page):
    return (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", text(page), flags=re.DOTALL)


def test_the_first_five_minutes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks("start", "python"):
        exec(compile(block.replace("2000", "1000"), "docs/start.md", "exec"), names)
    said = capsys.readouterr().out
    assert said.startswith("1,000 samples of ") or said.startswith("1000 samples of ")
    # the most suspect lie farther from the groups than the least suspect
    x, order = np.asarray(names["samples"].x)[:, 0], names["order"]
    far = np.abs(x[:, None] - [1, 2, 3]).min(1)
    assert far[order[-5:]].mean() > far[order[:5]].mean()
    assert names["repaired"].touched.sum() == 20
    exact = [float(value) for value in re.findall(r"^(\S+) ± ", said, re.MULTILINE)]
    assert len(exact) == 2
    assert exact[1] < exact[0] / 10


def test_the_commands_of_the_first_five_minutes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    install, commands = blocks("start", "sh")
    assert install in (ROOT / "README.md").read_text(encoding="utf-8")
    for line in commands.replace("-n 32 --steps 50", "-n 8 --steps 20").splitlines():
        program, *args = shlex.split(line)
        assert program == "intermode"
        assert main(args) == 0, capsys.readouterr().err
    for page in re.findall(r"`([\w-]+\.html)`", text("start")):
        assert (tmp_path / page).exists()


def test_training_on_what_was_drawn(capsys):
    names = {}
    for block in blocks("synthetic", "python"):
        small = block.replace("steps=600", "steps=200").replace("4000", "500").replace("sample(5000", "sample(2000")
        exec(compile(small, "docs/synthetic.md", "exec"), names)
    said = capsys.readouterr().out
    assert names["good"].mask.sum() == len(names["good"].kept) == len(names["control"])
    rates = re.findall(r"^(\w+) off the support: (\S+)$", said, re.MULTILINE)
    assert [name for name, _ in rates] == ["filtered", "repaired", "control"]
    assert all(0 < float(rate) < 1 for _, rate in rates)
    (command,) = blocks("synthetic", "sh")
    with pytest.raises(SystemExit):
        main([*shlex.split(command)[1:], "--help"])


def verdicts(study):
    """What each claim of the kept run came to, by its id."""
    kept = json.loads((ROOT / "results" / study / "quick" / "metrics.json").read_text())
    return {claim["id"]: (claim["holds"], claim["measured"], claim["low"]) for claim in kept["claims"]}


def test_what_is_said_of_training_on_generated_data_was_measured():
    grid, shapes, digits = map(verdicts, ("recursion-2d", "recursion-shapes", "recursion-mnist"))
    assert grid["grows"][0]
    assert shapes["grows-off-support"][0]
    assert [grid[f"filter-{g}"][0] for g in range(1, 6)] == [None, True, True, True, True]  # from the second on
    assert shapes["filter-off-support-3"][0]
    assert all(shapes[f"filter-duplicates-{g}"][0] is None for g in (1, 2, 3))
    assert not any(digits[name][0] for name in digits)
    assert digits["selection-hal"][2] > 1


def test_the_tests_that_are_named_are_there():
    named = re.findall(r"`(tests/\w+\.py)`", text("tested"))
    assert len(named) > 10
    for path in named:
        assert (ROOT / path).exists(), path
