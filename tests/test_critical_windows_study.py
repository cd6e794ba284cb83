"""The study of critical windows: its measures against their jobs, and matched content against a closed form."""

import numpy as np
import pytest

from intermode.evaluation import detection
from intermode.studies import critical_windows as page
from intermode.study import configured


def test_at_matched_content_what_only_counts_content_is_at_chance():
    rng = np.random.default_rng(0)
    content = rng.integers(1, 4, 4000)
    bad = rng.random(4000) < np.array([0, 0.02, 0.1, 0.3])[content]
    counting = content + 0.0
    assert detection(counting, bad).auroc.value > 0.7
    assert page.matched(counting, bad, content, 0).value == pytest.approx(0.5)
    knowing = rng.normal(size=4000) + 2 * bad
    found = page.matched(knowing, bad, content, 0)
    # two normal distributions 2 apart: Phi(sqrt(2)) = 0.921
    assert found.low < 0.921 < found.high
    assert found.n == bad.sum()
    assert page.matched(counting, np.zeros(4000, dtype=bool), content, 0) is None


def test_settings_and_claims_fit_together():
    for tier in page.STUDY.tiers:
        config = configured(page.STUDY, tier)
        assert set(page.jobs(config)) == {f"{key}{part}" for key in page.TARGETS for part in ("-model", "-pool", "")}
        assert {claim.measure for claim in page.claims(config)} >= {"critical_auroc_shapes", "critical_auroc_1d"}
