"""The recursion of images: its smoke tier as a whole, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from intermode.sampling import Samples
from intermode.studies.recursion_shapes import APART, SHARES, STUDY, Wrong
from intermode.study import configured, reproduce
from intermode.study.configs import Images


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
    ]
    # nothing but noise is drawn after 10 steps: all images are off the support, and that decides nothing
    assert [claim["holds"] for claim in metrics["claims"]] == [None] * 6
    for name in ("generation_0_duplicates", "hal_last_off_support", "hal_last_between_places", "all_last_deformed"):
        assert metrics["measures"][name]["method"] == "Wilson"
    for figure in ("duplicates", "off_support", "generations"):
        assert (tmp_path / "run" / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")


def test_rows_count_what_the_oracle_rejects() -> None:
    images = Images()
    x = images.target.sample(6, 0)
    x[4:] = -1.0  # blank, which the data never is
    pool = Samples(x, {}, torch.zeros(6, dtype=torch.bool).numpy(), 0.0)
    row = Wrong(images)(pool)
    assert (row["samples"], row["duplicates"], row["off_support"]) == (6, 0, 2)
    assert row["rules"]["blank"] == 2


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
    assert starts == ({"shipped"} if tier in ("quick", "long") else set())
