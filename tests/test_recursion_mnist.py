"""The MNIST experiment on drawn digits: its smoke tier as a whole, and what it refuses."""

import json

import pytest

from intermode.cli import main
from intermode.studies.recursion_mnist import MEASURES

ON = ["reproduce", "recursion-mnist", "--tier", "smoke"]


@pytest.mark.slow
def test_smoke_tier_measures_every_generation(tmp_path):
    out = tmp_path / "run"
    assert main([*ON, "--out", str(out)]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert [len(metrics["series"][arm]) for arm in ("random", "hal", "hal-per-class")] == [2, 2, 2]
    for arm in ("random", "hal", "hal-per-class"):
        for row in metrics["series"][arm]:
            for name in MEASURES:
                assert row[name]["low"] <= row[name]["value"] <= row[name]["high"]
            assert sum(row["classes"]) == row["samples"] == 80
            assert 0 <= row["usefulness"]["value"] <= 1
    kept = metrics["series"]["classes_kept"]
    assert kept["pool"] == [8] * 10
    assert kept["hal-per-class"] == [6] * 10
    assert sum(kept["hal"]) == 60
    selection = metrics["series"]["selection"]
    assert {row["selector"] for row in selection} == {"hal", "hal-per-class"}
    assert "t = 8..14" in {row["window"] for row in selection}
    assert all(row["fid"] > 0 for row in selection)
    fid = metrics["measures"]["random_selection_fid"]
    assert fid["low"] <= fid["value"] <= fid["high"]
    for figure in (*MEASURES, "classes", "kept-and-rejected", "selection"):
        assert (out / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--window", "14", "8"], "window"),
        (["--count", "40"], "count"),
        (["--arms.names", "hal", "best"], "arms"),
        (["--model.size", "0"], "size"),
        (["--tuning-steps", "-1"], "tuning_steps"),
        (["--reference", "0"], "reference"),
        (["--model.network.patch", "5"], "divide 28"),
    ],
)
def test_bad_settings_are_one_line_and_leave_nothing(flags, word, tmp_path, capsys):
    out = tmp_path / "run"
    flags = [flag.format(here=tmp_path) for flag in flags]
    assert main([*ON, "--out", str(out), *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert word in error
    assert error.count("\n") == 1
    assert not out.exists()
