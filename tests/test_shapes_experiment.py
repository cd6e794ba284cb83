"""The shapes experiments: their smoke tiers as a whole, and what they refuse."""

import json

import numpy as np
import pytest

from intermode.cli import main
from intermode.experiments.shapes import TIERS


def finish(name, out, *more):
    assert main(["reproduce", name, "--tier", "smoke", "--out", str(out), *more]) == 0
    return json.loads((out / "metrics.json").read_text())


def test_shapes_smoke_tier_says_what_it_must(tmp_path):
    metrics = finish("shapes", tmp_path / "run", "--samples", "16", "--steps", "5")
    values = metrics["values"]
    for rate in ("hallucination_rate", "off_support_rate"):
        assert values[f"{rate}_low"] <= values[rate] <= values[f"{rate}_high"]
    # hardly trained, everything is off the support
    assert values["off_support_rate"] > 0.9
    assert sum(count for _, count in metrics["series"]["rules"]) == values["samples"] == 16
    assert metrics["claims"][0]["id"] == "hallucinates"
    assert {"samples", "hallucinated", "film-strips", "loss"} <= set(metrics["figures"])
    for figure in metrics["figures"]:
        assert (tmp_path / "run" / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "run" / "model" / "model_index.json").exists()


@pytest.mark.slow
def test_recursion_smoke_tier_counts_every_generation(tmp_path):
    metrics = finish("recursion-shapes", tmp_path / "run")
    assert [len(metrics["series"][arm]) for arm in ("all", "random", "hal")] == [2, 3, 3]
    for rows in metrics["series"].values():
        for row in rows:
            assert row["samples"] == 40
            assert row["duplicates"] <= row["off_support"] <= 40
            assert row["off_support_rate"] == row["off_support"] / 40
    first = [rows[0] for rows in metrics["series"].values()]
    assert first[0] == first[1] == first[2]  # generation 0 has seen no selection
    assert {claim["id"] for claim in metrics["claims"]} >= {"grows-duplicates", "filter-off-support-2"}


def test_windows_hold_two_visited_timesteps_each():
    for config in TIERS.values():
        visited = np.array(config.sampler.timesteps(config.schedule))
        assert config.windows
        for low, high in config.windows:
            assert ((visited >= low) & (visited <= high)).sum() >= 2
            assert high < config.timesteps
    assert (700, 850) in TIERS["quick"].windows


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--window", "850", "700"], "window"),
        (["--window", "700", "1200"], "window"),
        (["--patch", "5"], "divide 64"),
        (["--sampling-steps", "1"], "steps"),
        (["--samples", "0"], "samples"),
        (["--channels", "10"], "multiples of 32"),
        (["--pretrained", "--timesteps", "900"], "pretrained"),
        (["--chunk", "0"], "chunk"),
    ],
)
def test_bad_settings_are_one_line_and_leave_nothing(flags, word, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["reproduce", "shapes", "--tier", "quick", "--no-pretrained", "--out", str(out), *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert word in error
    assert error.count("\n") == 1
    assert not out.exists()
