"""The study of critical windows: its measures against their jobs."""

from intermode.studies import critical_windows as page
from intermode.study import configured


def test_settings_and_claims_fit_together():
    for tier in page.STUDY.tiers:
        config = configured(page.STUDY, tier)
        assert set(page.jobs(config)) == {f"{key}{part}" for key in page.TARGETS for part in ("-model", "-pool", "")}
        assert {claim.measure for claim in page.claims(config)} >= {"critical_auroc_shapes", "critical_auroc_1d"}
