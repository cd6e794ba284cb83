"""The MNIST study on drawn digits: its smoke tier as a whole, and what it refuses."""

import json

import numpy as np
import pytest
import torch

from intermode.cli import main
from intermode.correlation import spearman
from intermode.detect.white import white
from intermode.errors import InputError
from intermode.files import save_tensors
from intermode.jobs import Done, Running
from intermode.progress import Silent
from intermode.studies.recursion_mnist import MEASURES, STUDY, DigitsModel, Source, correlate
from intermode.study import configured
from intermode.targets.digits import CLASSES

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
    assert metrics["missing"] == []
    assert [claim["id"] for claim in metrics["claims"]] == [
        *("fid-hal-1", "fid-hal-per-class-1"),
        *("selection-hal", "selection-hal-per-class"),
    ]
    for claim in metrics["claims"]:
        assert (claim["holds"] is None) == (claim["low"] < 1 <= claim["high"])
    for name in ("hal_ink_spearman", "hal_ink_spearman_within_class"):
        found = metrics["measures"][name]
        assert -1 <= found["low"] <= found["value"] <= found["high"] <= 1
        assert (found["n"], found["method"]) == (80, "bootstrap")
    assert any("ink" in note and "within classes" in note for note in metrics["notes"])
    fid = metrics["measures"]["random_selection_fid"]
    assert fid["low"] <= fid["value"] <= fid["high"]
    for figure in (*MEASURES, "classes", "kept-and-rejected", "selection"):
        assert (out / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("tier", STUDY.tiers)
def test_all_tiers_can_be_used_on_data_of_their_size(tier):
    config = configured(STUDY, tier, {"model.target.kind": "drawn"})
    assert max(config.model.size, config.reference) <= 60_000
    assert tuple(config.window) in config.windows


def test_generation_0_has_digits_of_its_seed_with_their_classes():
    model = DigitsModel(size=50, target=Source("drawn", drawn=200))
    x, labels = model.data()
    more, _ = DigitsModel(size=80, target=Source("drawn", drawn=200)).data()
    assert x.equal(more[:50])  # fresh data comes after them
    every = model.target.digits("train")
    for k in range(5):
        (row,) = [i for i in range(200) if every.x[i].equal(x[k])]
        assert every.y[row] == labels[k]
    other, _ = DigitsModel(size=50, target=Source("drawn", drawn=200), seed=1).data()
    assert not x.equal(other)
    with pytest.raises(InputError, match="201 real digits are asked for, there are 200"):
        DigitsModel(size=201, target=Source("drawn", drawn=200)).data()


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--model.target.kind", "mnist", "--model.target.folder", "{here}"], "lacks train-images-idx3-ubyte"),
        (["--reference", "101"], "60 and 101 of 100 real digits"),
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


def test_ink_is_told_of_generation_0_over_all_and_within_the_classes_asked_for(tmp_path):
    """Hal that is the ink within each class, and falls with the class."""
    n, rng = 60, np.random.default_rng(0)
    x = torch.from_numpy(rng.uniform(-1, 1, (n, 1, 28, 28))).float()
    ink, classes = white(x).numpy(), np.arange(n) % CLASSES
    scores = torch.from_numpy(ink - classes)
    lost = torch.arange(n) < 10  # diverged: not looked at
    save_tensors(tmp_path / "pool" / "tensors.safetensors", {"samples": x, "diverged": lost})
    save_tensors(tmp_path / "scores" / "tensors.safetensors", {"score.t = 8..14": scores})
    inputs = {name: Done(tmp_path / name, {"seconds": 0.0}, {}) for name in ("pool", "scores")}
    found = correlate(Running(tmp_path / "ink", {"window": (8, 14), "seed": 3}, inputs, {}, Silent()))
    assert found["within_class"]["value"] == pytest.approx(1)
    assert found["all"]["value"] == spearman(scores[10:], ink[10:]) < 0.5
    assert found["all"]["n"] == 50


def test_the_long_tier_asks_whether_hal_beats_ink_and_the_critical_windows_chance():
    config = configured(STUDY, "long", {"model.target.kind": "drawn"})
    claims = {claim.id: claim.measure for claim in STUDY.claims(config)}
    assert claims["fid-over-white-4"] == "hal_over_white_fid_4"
    assert claims["fid-bias-critical-1"] == "bias-critical_over_random_fid_1"
