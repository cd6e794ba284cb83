"""The recursion of images: its smoke tier as a whole."""

import json

import pytest

from intermode.cli import main


def finish(name, out, *more):
    assert main(["reproduce", name, "--tier", "smoke", "--out", str(out), *more]) == 0
    return json.loads((out / "metrics.json").read_text())


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
