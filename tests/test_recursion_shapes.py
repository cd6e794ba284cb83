"""The recursion of images: its smoke tier as a whole, and what it refuses."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from intermode.errors import InputError
from intermode.evaluation import Estimate
from intermode.sampling import Samples
from intermode.studies.recursion_shapes import APART, COVERAGE, OTHERS, SHAPES, SHARES, STUDY, Read
from intermode.study import configured, reproduce
from intermode.study.arms import compared
from intermode.study.configs import Images, LocalShapesModel
from intermode.targets.shape_places import contents, coverage


@pytest.mark.slow
def test_smoke_tier_counts_every_generation(tmp_path: Path) -> None:
    metrics = reproduce("recursion-shapes", "smoke", tmp_path / "run")
    assert metrics["missing"] == []
    assert [len(metrics["series"][arm]) for arm in ("all", "random", "hal")] == [2, 3, 3]
    for rows in metrics["series"].values():
        for row in rows:
            assert row["samples"] == sum(row["rules"].values()) == 40
            assert row["duplicates"] <= row["off_support"] <= 40
            assert row["off_support_rate"] == row["off_support"] / 40
            assert row["off_support"] == 40 - row["rules"].get("in-support", 0)
    first = [rows[0] for rows in metrics["series"].values()]
    assert first[0] == first[1] == first[2]  # generation 0 has seen no selection
    assert [claim["id"] for claim in metrics["claims"]] == [
        *("grows-duplicates", "filter-duplicates-1", "filter-duplicates-2"),
        *("grows-off-support", "filter-off-support-1", "filter-off-support-2"),
        *("empties-1", "empties-2"),
    ]
    # nothing but noise is drawn after 10 steps: all images are off the support, and that decides nothing
    assert [claim["holds"] for claim in metrics["claims"]] == [None] * 8
    for name in ("generation_0_duplicates", "hal_last_off_support", "hal_last_between_places", "all_last_deformed"):
        assert metrics["measures"][name]["method"] == "Wilson"
    for figure in ("duplicates", "off_support", "shapes", "coverage", "generations"):
        assert (tmp_path / "run" / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")


def test_rows_count_what_the_oracle_rejects() -> None:
    images = Images()
    x = images.target.sample(6, 0)
    x[4:] = -1.0  # blank, which the data never is
    pool = Samples(x, {}, torch.zeros(6, dtype=torch.bool).numpy(), 0.0)
    row = Read(images, 4)(pool)
    assert (row["samples"], row["duplicates"], row["off_support"]) == (6, 0, 2)
    assert row["rules"]["blank"] == 2
    shapes = images.target.label(x).counts_by_kind.sum(1)
    assert (shapes[:4] > 0).all()
    number = Estimate(**row["shapes"])
    assert number.value == shapes.mean()
    assert number.high - number.value == pytest.approx(1.96 * shapes.std(ddof=1) / 6**0.5, rel=1e-3)
    assert row["coverage"]["value"] == coverage(contents(images.target.label(x)), 6, 4).value
    assert Read(images, 9)(pool)["coverage"]["value"] > row["coverage"]["value"]  # at all but one


def test_shares_are_of_all_seeds_together() -> None:
    two, off = SHARES
    rows = [{"duplicates": 1, "off_support": 4, "samples": 10}, {"duplicates": 3, "off_support": 6, "samples": 30}]
    assert two.mean(rows).value == 4 / 40
    assert off.mean(rows).n == 40
    assert two.ratio is not None
    assert two.ratio(rows, rows).value == 1
    deformed, between, *_ = APART
    apart = [{"rules": {"between-places": 2, "in-support": 8}, "samples": 10}, {"rules": {}, "samples": 30}]
    assert (between.name, between.mean(apart).value, deformed.mean(apart).value) == ("between_places", 2 / 40, 0)


@pytest.mark.parametrize("tier", STUDY.tiers)
def test_all_tiers_can_be_used(tier: str) -> None:
    config = configured(STUDY, tier)
    starts = {job.inputs["start"].name for job in STUDY.jobs(config).values() if "start" in job.inputs}
    of = {"quick": {"shipped"}, "long": {f"seed-{seed}-generation-00-model" for seed in (0, 1)}}
    assert starts == of.get(tier, set())


def test_amounts_are_means_of_the_seeds_and_nothing_has_no_ratio() -> None:
    def rows(*values: float) -> list[dict[str, Any]]:
        return [{"shapes": asdict(Estimate(v, v - 0.3, v + 0.3, n=10, method="normal"))} for v in values]

    mean = SHAPES.mean(rows(1.0, 2.0))
    assert (mean.value, mean.n) == (1.5, 20)
    assert mean.high - mean.value == pytest.approx(0.3 / 2**0.5)
    assert SHAPES.ratio is not None
    ratio = SHAPES.ratio(rows(1.0, 2.0), rows(3.0, 3.0))
    assert ratio is not None
    assert ratio.value == 0.5
    assert ratio.low < 0.5 < ratio.high
    assert SHAPES.ratio(rows(1.0), rows(0.0)) is None


def test_the_long_tier_asks_what_the_gain_of_hal_is() -> None:
    config = configured(STUDY, "long")
    claims = {claim.id: claim.measure for claim in STUDY.claims(config)}
    assert claims["filter-duplicates-4"] == "hal_over_random_duplicates_4"
    assert claims["over-white-duplicates-4"] == "hal_over_white_duplicates_4"
    assert claims["empties-4"] == "hal_over_random_shapes_4"
    # what is compared of rows holds every measure that a claim names
    one = asdict(Estimate(0.5, 0.4, 0.6, n=9, method="normal"))
    row = {"samples": 9, "duplicates": 1, "off_support": 2, "rules": {}, "shapes": one, "coverage": one}
    rows = [{**row, "generation": g, "seed": seed} for seed in (0, 1) for g in range(5)]
    quantities = (*SHARES, *APART, SHAPES, COVERAGE)
    measured = compared(config, dict.fromkeys(config.arms.names, rows), quantities, OTHERS)
    assert set(claims.values()) <= measured.values.keys()
    assert "white_over_random_shapes_1" in measured.values
    assert not [name for name in measured.values if name.startswith(("random_over", "all_over", "white_over_white"))]


def test_generations_of_the_long_tier_are_tuned_local_networks() -> None:
    config = configured(STUDY, "long", {"model.network.width": 32, "model.seed": 5})
    assert isinstance(config.model, LocalShapesModel)
    assert (config.model.network.width, config.model.target.keep_blank) == (32, True)
    assert config.tuned is not None
    assert isinstance(config.tuned, LocalShapesModel)
    train, tuned = config.model.train, config.tuned.train
    assert (tuned.steps, tuned.learning_rate) == (600, 5e-4)
    assert (train.steps, train.precision, tuned.precision) == (12_000, "bf16", "bf16")
    with pytest.raises(InputError, match="tuning_steps: -1 must be at least 0"):
        configured(STUDY, "long", {"tuning_steps": -1})
