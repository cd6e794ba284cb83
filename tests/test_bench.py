"""The benchmark of detectors: its halves, its cells and its smoke tier as a whole."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from intermode.cli import main
from intermode.detect.registry import DETECTORS, Setting
from intermode.experiments.bench import TIERS, pools
from intermode.experiments.bench.candidates import candidates
from intermode.experiments.bench.cells import (
    auroc,
    halves,
    make_cell,
    ranks_within,
    record_file,
    scores_file,
    scores_of,
)
from intermode.experiments.bench.claims import conformal, conformal_claims
from intermode.experiments.bench.pools import REAL, SOURCES, Pool, Source
from intermode.experiments.bench.rows import COMBINED, combine, row_of
from intermode.files import load_tensors, read_json
from intermode.models import load_model
from intermode.progress import Silent
from intermode.run import Results
from intermode.targets.gaussian import line

CONFIG = SimpleNamespace(seed=0, fitting=200)


@pytest.fixture
def pool(network, schedule):
    """Samples of the data and samples between its modes, with two windows of Hal that disagree between the halves."""
    from intermode.denoisers import NetworkDenoiser

    rng = np.random.default_rng(0)
    n = 240
    bad = rng.random(n) < 0.4
    target = line([1, 2, 3])
    x = torch.where(torch.from_numpy(bad)[:, None], torch.tensor(1.5), target.sample(n, 0))
    validation = np.arange(n) < n // 2
    signal = bad + 0.5 * rng.standard_normal(n)
    lucky = np.where(validation, signal + 3 * bad, rng.standard_normal(n))
    hal = {"hal-0-5": signal, "hal-0-9": lucky}
    real = target.sample(REAL, 1)
    return Pool(
        SOURCES["gaussian-1d-well"],
        NetworkDenoiser(network(), schedule),
        x,
        bad,
        np.ones(n, dtype=bool),
        hal,
        real,
        1e-6,
        n,
        int(bad.sum()),
    )


def test_the_shipped_models_are_those_that_the_tiers_ask_for():
    for config in TIERS.values():
        config.check()
    for source in SOURCES.values():
        if not source.trained_here:
            assert load_model(source.shipped).shape == source.data.sample(1, 0).shape[1:]


def test_every_detector_of_the_registry_has_candidates():
    for shape in ((1,), (2,), (1, 64, 64)):
        setting = Setting(shape, SOURCES["gaussian-1d-well"].data)
        for name in DETECTORS:
            assert {d.name.removesuffix("-largest") for d in candidates(name, setting)} == {
                name.removesuffix("-largest")
            }


def test_settings_are_chosen_on_one_half_and_judged_on_the_other(pool, tmp_path):
    make_cell([pool], CONFIG, tmp_path, "hal")
    name = pool.source.name
    record = read_json(record_file(tmp_path, name, "hal"))
    assert record["settings"] == "t = 0..9"  # better by luck where it was chosen ...
    _, test = halves(pool)
    row = row_of(pool, CONFIG, "hal", record, scores_of(tmp_path, name, "hal"))
    assert row["auroc"] == pytest.approx(auroc(pool.hal["hal-0-9"][test], pool.bad[test]))
    assert row["auroc"] < 0.65  # ... and by luck alone
    assert (row["hallucinated"], row["in_support"]) == (pool.bad[test].sum(), (~pool.bad[test]).sum())


def test_two_labels_of_the_same_samples_choose_their_own_settings(pool, tmp_path):
    n = len(pool.bad)
    other = np.random.default_rng(2).random(n) < 0.4
    labelled = replace(
        pool,
        source=replace(pool.source, target="other"),
        bad=other,
        counted=np.arange(n) % 3 > 0,
        hal={"hal-0-5": pool.hal["hal-0-5"], "hal-0-9": pool.hal["hal-0-9"], "hal-0-3": other * 1.0},
    )
    for name in ("hal", "knn"):
        make_cell([pool, labelled], CONFIG, tmp_path, name)
        alone = tmp_path / "alone"
        make_cell([pool], CONFIG, alone, name)
        make_cell([labelled], CONFIG, alone, name)
        for source in (pool.source.name, labelled.source.name):
            found, expected = (read_json(record_file(path, source, name)) for path in (tmp_path, alone))
            assert found["settings"] == expected["settings"]
            assert np.array_equal(scores_of(tmp_path, source, name), scores_of(alone, source, name))
    assert read_json(record_file(tmp_path, "other-well", "hal"))["settings"] == "t = 0..3"
    validation, test = halves(labelled)
    assert not (validation & test).any()
    assert np.array_equal(validation | test, labelled.counted)


def test_what_another_label_alone_calls_hallucinated_is_not_counted(tmp_path, monkeypatch):
    class Data:
        shape = (1, 64, 64)

        def label(self, x):
            k = np.arange(len(x))
            return SimpleNamespace(hallucinated=k < 10, duplicate=k < 4)

        def sample(self, n, seed):
            return torch.zeros(n, *self.shape)

    drawn = torch.arange(60.0)[:, None, None, None].expand(60, 1, 64, 64)
    monkeypatch.setattr(Source, "data", Data())
    monkeypatch.setattr(pools, "generate", lambda *_, **__: SimpleNamespace(x=drawn, scores={}))
    config = replace(TIERS["smoke"], images=60, images_kept=6)
    kept = {}
    for name, bad in (("shapes-off-support-under", 10), ("shapes-under", 4)):  # the second reads what the first drew
        pool = pools.make_pool(SOURCES[name], config, tmp_path, Silent())
        assert (pool.drawn, pool.hallucinated) == (60, bad)
        kept[name] = set(pool.x[:, 0, 0, 0][torch.from_numpy(pool.counted)].tolist())
        assert len(kept[name]) == min(bad, 6) + 6
        assert {k for k in kept[name] if k < 10} <= set(range(bad))
        assert np.array_equal(pool.bad, pool.x[:, 0, 0, 0].numpy() < bad)
        assert set(pool.x[:, 0, 0, 0].tolist()) >= {0, 1, 2, 3}  # the rare ones are all there
    assert {k for k in kept["shapes-under"] if k >= 10} == {k for k in kept["shapes-off-support-under"] if k >= 10}


@pytest.mark.parametrize("name", ["knn", "residual", "hal-renoise", "oracle"])
def test_cells_of_sample_detectors(pool, tmp_path, name):
    make_cell([pool], CONFIG, tmp_path, name)
    source = pool.source.name
    record, tensors = (
        read_json(record_file(tmp_path, source, name)),
        load_tensors(scores_file(tmp_path, source, name))[0],
    )
    assert tensors["scores"].shape == (240,)
    assert record["relative_time"] > 0
    # data that the detector was neither fitted on nor calibrated with
    assert ("checking" in tensors) == (name != "oracle")
    if name == "knn":
        assert record["nfe"] == 0
        assert auroc(tensors["scores"].numpy(), pool.bad) > 0.99
        cut = np.quantile(tensors["calibration"], 0.95)
        kept = (tensors["checking"] <= cut).double().mean()
        assert abs(kept - 0.95) < 0.03  # of 1,900 each: 0.03 is over 5.5 standard errors of the difference
    if name == "oracle":
        assert auroc(tensors["scores"].numpy(), pool.bad) == 1


def test_a_pair_of_scores_is_found_that_is_better_than_either(pool):
    rng = np.random.default_rng(1)
    # each sees half of the hallucinations
    first = pool.bad * (rng.random(240) < 0.5)
    scores = {
        "a": 4.0 * first + rng.standard_normal(240),
        "b": 4.0 * (pool.bad & ~first) + rng.standard_normal(240),
        "c": rng.standard_normal(240),
    }
    results = Results()
    for name, s in scores.items():
        results.rows.append(row_of(pool, CONFIG, name, {"settings": "", "nfe": 1, "relative_time": 0.01}, s))
    combine(results, pool, CONFIG, scores)
    row = results.rows[-1]
    assert row["detector"] == COMBINED
    assert row["settings"].endswith("of a and b")
    assert row["nfe"] == 2
    assert row["auroc"] > max(r["auroc"] for r in results.rows[:-1])


def test_conformal_intervals_hold_both_samples():
    """Kept shares of fresh calibrations: of 400, their intervals hold the promise about as often as they say."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(400):
        real = {"calibration": rng.random(300), "checking": rng.random(300)}
        results = Results()
        conformal(results, "gaussian-1d-well", "lid", real, rng.random(300), rng.random(50) + 1)
        found = next(c for c in results.series["conformal"] if c["alpha"] == 0.05)
        value, low, high = found["real_kept"]
        assert low <= value <= high
        assert found["removed"][0] > 0.9
        held.append(low <= 0.95 <= high)
    assert np.mean(held) > 0.9  # of the checking sample alone: 0.83; 0.9 is 4.6 standard errors under 0.95


def test_conformal_claims_are_the_default_detectors():
    results = Results()
    row = {"target": "gaussian-1d", "model": "well"}
    results.rows = [{**row, "detector": "knn", "auroc": 1.0}, {**row, "detector": "lid", "auroc": 0.9}]
    found = {"source": "gaussian-1d-well", "alpha": 0.05, "removed": (1, 1, 1)}
    kept = {"real_kept": (0.95, 0.94, 0.96), "in_support_kept": (0.9, 0.88, 0.92)}
    results.series["conformal"] = [{**found, **kept, "detector": name} for name in ("knn", "lid")]
    conformal_claims(results, SimpleNamespace(targets=("gaussian-1d-well",)))
    assert [(claim.holds, " lid keeps 95%" in claim.statement) for claim in results.claims] == [
        (True, True),
        (False, True),
    ]


def test_ranks_are_shares_of_the_reference():
    reference = np.array([1.0, 2.0, 2.0, np.inf])
    assert ranks_within(np.array([0.0, 1.0, 2.0, 3.0, np.inf, np.nan]), reference).tolist() == [
        0.0,
        0.125,
        0.5,
        0.75,
        0.875,
        0.875,
    ]


@pytest.mark.slow
def test_smoke_tier_resumes_its_cells(tmp_path):
    out = tmp_path / "run"
    command = ["bench", "--tier", "smoke", "--out", str(out), "--detectors", "hal", "residual", "random", "oracle"]
    assert main(command) == 0
    first = json.loads((out / "metrics.json").read_text())
    assert {row["detector"] for row in first["rows"]} == {"hal", "residual", "random", "oracle", COMBINED}
    of = {row["detector"]: row for row in first["rows"]}
    assert of["oracle"]["auroc"] == 1
    assert "Leaderboard" in (out / "report.html").read_text()
    (out / "gaussian-1d-under" / "cells" / "random.json").unlink()  # as if killed before it was written
    assert main(command) == 0
    second = json.loads((out / "metrics.json").read_text())
    drop = ("relative_time",)
    rows = [[{k: v for k, v in row.items() if k not in drop} for row in m["rows"]] for m in (first, second)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--targets", "mnist"], "targets"),
        (["--detectors", "nose"], "detectors"),
        (["--detectors", "hal", "hal"], "at most once"),
        (["--images", "0"], "images"),
    ],
)
def test_bad_settings_are_one_line(flags, word, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["bench", "--out", str(out), *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert word in error
    assert error.count("\n") == 1
    assert not out.exists()
