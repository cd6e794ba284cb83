"""The study of lattices: which segments hold the off-support mass, what several models say, and the smoke tier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intermode.engines import Here
from intermode.errors import InputError
from intermode.evaluation import Estimate, over_seeds
from intermode.files import read_json
from intermode.jobs import Store, run_jobs
from intermode.studies.gaussian_2d import STUDY, middle, over_models, segments
from intermode.study import Found, configured, reproduce
from intermode.targets.lattice import grid, neighbours

SMALL: dict[str, Any] = {
    "model.size": 500,
    "model.noise.timesteps": 30,
    "model.noise.beta_start": 0.02,
    "model.target.side": 2,
    "model.train.steps": 40,
    "model.train.batch": 100,
    "model.watch_every": 20,
    "pool.n": 1000,
    "table_begin": 10,
    "table_points": 24,
    "seeds": 2,
}


def split(masses: list[float]) -> dict[str, float]:
    """Of masses on the middle of an edge, at 35 % of a diagonal, in a mode, and far outside."""
    target = grid()
    edge, diagonal = (target.means[neighbours(target, order)[0]] for order in (0, 1))
    places = [edge.mean(0), diagonal[0] + 0.35 * (diagonal[1] - diagonal[0]), target.means[7], np.array([4.0, 4.0])]
    return segments(target, np.stack(places), np.array(masses))


def test_masses_are_per_segment_and_in_support_mass_counts_nowhere() -> None:
    found = split([4e-3, 3.2e-4, 0.9, 1e-5])
    assert found["nearest"] == found["nearest_middle"] == pytest.approx(4e-3 / 40)
    assert found["second"] == pytest.approx(3.2e-4 / 32)
    assert found["elsewhere"] == pytest.approx(1e-5)


def test_the_middle_is_away_from_the_modes() -> None:
    target = grid()
    edge = target.means[neighbours(target, 0)[0]]
    x = np.stack([edge[0] + share * (edge[1] - edge[0]) for share in (0.2, 0.3)])
    found = segments(target, x, np.array([1e-3, 1e-4]))
    assert found["nearest"] == pytest.approx(1.1e-3 / 40)
    assert found["nearest_middle"] == pytest.approx(1e-4 / 40)


def test_one_model_has_no_interval_and_several_have_one() -> None:
    assert middle([0.3]) == 0.3
    assert middle([10.0, 20.0, 30.0]) == over_seeds([10.0, 20.0, 30.0])
    assert middle([0.0, 1.0]) == 0.5  # no logarithm
    one, other = (Estimate(v, v - 0.1, v + 0.05, n=10, method="bootstrap") for v in (0.5, 0.7))
    assert over_models([one]) is one
    both = over_models([one, other])
    assert (both.value, both.low, both.high, both.n) == (pytest.approx(0.6), 0.4, 0.75, 2)


def test_claims_need_several_models_and_twenty_to_one() -> None:
    claims = {claim.id: claim for claim in STUDY.claims(configured(STUDY))}
    nearest = claims["diamond-nearest-middle"]
    assert nearest.measure == "diamond_nearest_over_second_middle"
    assert nearest.bound.decide(over_seeds([40.0])) is None
    assert nearest.bound.decide(over_seeds([40.0, 41.0, 42.0])) is True
    assert nearest.bound.decide(over_seeds([10.0, 11.0, 12.0])) is False
    assert nearest.bound.decide(over_seeds([10.0, 20.0, 60.0])) is None
    assert list(claims) == [
        *(f"{kind}-detection-{end}" for kind in ("grid", "diamond") for end in (8, 19, "best")),
        *(f"{kind}-nearest{where}" for kind in ("diamond", "grid") for where in ("", "-middle")),
    ]


@pytest.mark.slow
def test_several_models_of_each_lattice(tmp_path: Path) -> None:
    """Two by two modes, hardly trained."""
    metrics = reproduce("gaussian-2d", "smoke", tmp_path / "run", settings=SMALL)
    assert metrics["missing"] == []
    values, measures = metrics["values"], metrics["measures"]
    found = Found(STUDY.jobs(config := configured(STUDY, "smoke", SMALL)), Store(tmp_path / "run" / "jobs"), {})
    for kind, prefix in (("grid", ""), ("diamond", "diamond_")):
        masses = [found[f"{kind}-{k}-mass"].facts["value"] for k in range(2)]
        assert masses[0] != masses[1]
        assert values[f"{prefix}exact_mass"] == pytest.approx(np.sqrt(np.prod(masses)))
        laws = [found[f"{kind}-{k}-mass"].tensors() for k in range(2)]
        parts = [segments(config.target(kind), law["x_0"].numpy(), law["mass"].numpy()) for law in laws]
        expected = over_seeds([part["nearest"] / part["second"] for part in parts])
        ratio = measures[f"{kind}_nearest_over_second"]
        assert (ratio["low"], ratio["high"], ratio["n"]) == (*map(pytest.approx, expected.triple[1:]), 2)
        assert values[f"{prefix}samples"] == 2000
        rate = measures[f"{prefix}hallucination_rate"]
        assert rate["low"] < rate["value"] < rate["high"]
        assert rate["value"] == pytest.approx(values[f"{prefix}hallucinated"] / 2000)
        for k in range(2):
            curve = read_json(found[f"{kind}-{k}-model"].folder / "model" / "curve.json")
            assert [step for step, _ in curve] == [20, 40]
            # what is watched at the end is the model that is kept
            assert curve[-1][1] == pytest.approx(masses[k], rel=0.01)
        assert metrics["series"][f"{kind}_training"][0][0] == 20


def test_a_watched_training_that_failed_goes_on_with_its_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = STUDY.jobs(configured(STUDY, "smoke", {**SMALL, "model.train.checkpoint_every": 10}))["grid-0-model"]
    from intermode.studies import gaussian_2d

    exact, calls = gaussian_2d.mass_on_grid, []

    def fails_once(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError
        return exact(*args)

    monkeypatch.setattr(gaussian_2d, "mass_on_grid", fails_once)
    store = Store(tmp_path)
    assert "out of memory" in run_jobs([job], store, Here())[job.folder]
    assert run_jobs([job], store, Here()) == {}
    done = store.done(job)
    assert done is not None
    assert [step for step, _ in read_json(done.folder / "model" / "curve.json")] == [20, 40]
    assert len(calls) == 3  # the first look was not taken again


def test_shipped_models_bring_their_curves(tmp_path: Path) -> None:
    config = configured(STUDY)
    jobs = STUDY.jobs(config)
    models = [jobs[f"{kind}-0-model"] for kind in ("grid", "diamond")]
    assert run_jobs(models, Store(tmp_path), Here()) == {}
    for job in models:
        rows = read_json(tmp_path / job.folder / "model" / "curve.json")
        assert [step for step, _ in rows] == list(range(5000, 30_001, 5000))
    long = STUDY.jobs(configured(STUDY, "long"))
    assert [long[f"grid-{k}-model"].config.shipped for k in range(3)] == ["grid", None, None]
    assert long["grid-0-model"].identity == jobs["grid-0-model"].identity


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model.noise.timesteps": 500}, "pretrained: the model grid was trained with"),
        ({"model.target.side": 3}, "pretrained: the model grid was trained with grid, not 3 by 3 grid"),
        ({"window": (0, 2000)}, "window"),
        ({"seeds": 0}, "seeds: 0 must be at least 1"),
        ({"table_points": 1}, "table_points: 1 must be at least 2"),
        ({"model.watch_every": 0}, "watch_every: 0 must be at least 1"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        reproduce("gaussian-2d", "quick", tmp_path / "run", settings=settings)
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_smoke_tier_says_what_it_must(tmp_path: Path) -> None:
    metrics = reproduce("gaussian-2d", "smoke", tmp_path / "run")
    values, measures = metrics["values"], metrics["measures"]
    assert metrics["missing"] == []
    wanted = "samples hallucinated hallucination_rate hal_auroc hal_kept_at_95_removed hal_removed_at_98_kept "
    wanted += "grid_nearest grid_second diamond_nearest diamond_second"
    assert set(wanted.split()) <= set(values)
    assert values["hallucination_rate"] == values["hallucinated"] / values["samples"]
    # the exact mass against the sampled rate: 5.5 standard errors are passed with probability 4e-8
    for prefix in ("", "diamond_"):
        rate, exact = values[f"{prefix}hallucination_rate"], values[f"{prefix}exact_mass"]
        known = measures[f"{prefix}exact_mass"]["high"] - exact
        assert abs(rate - exact) < 5.5 * np.sqrt(rate * (1 - rate) / values["samples"]) + known
    nearest = [claim for claim in metrics["claims"] if "nearest" in claim["id"]]
    assert [claim["holds"] for claim in nearest] == [None] * 4  # one model each
    assert all(claim["measured"] is not None for claim in nearest)
    figures = {f"{kind}-{name}" for kind in ("grid", "diamond") for name in ("scatter", "trajectories", "hal")}
    assert figures < set(metrics["figures"])
    assert len(metrics["figures"]) == 10
    for name in metrics["figures"]:
        assert (tmp_path / "run" / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
