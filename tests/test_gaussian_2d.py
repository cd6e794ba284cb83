"""The 2-D experiment: which segments hold the off-support mass, and the smoke tier as a whole."""

import json

import numpy as np
import pytest

from intermode.cli import main
from intermode.exact import Outcome
from intermode.experiments.gaussian_2d import _nearest_claims, _segments
from intermode.run import Results
from intermode.targets.lattice import grid, neighbours


def results_of(masses):
    """Masses on the middle of an edge, at 35 % of a diagonal, in a mode, and far outside."""
    target = grid()
    edge, diagonal = (target.means[neighbours(target, order)[0]] for order in (0, 1))
    x = np.stack(
        [edge.mean(0), diagonal[0] + 0.35 * (diagonal[1] - diagonal[0]), target.means[7], np.array([4.0, 4.0])]
    )
    results = Results()
    _segments(results, "grid", target, Outcome(x, np.array(masses), x, 0.01))
    _nearest_claims(results, "grid")
    return results


def test_masses_are_per_segment_and_in_support_mass_counts_nowhere():
    values = results_of([4e-3, 3.2e-4, 0.9, 1e-5]).values
    assert values["grid_nearest"] == pytest.approx(4e-3 / 40)
    assert values["grid_second"] == pytest.approx(3.2e-4 / 32)
    assert values["grid_elsewhere"] == pytest.approx(1e-5)


def test_the_claim_needs_twenty_to_one():
    claims = {c.id: c for c in results_of([4e-3, 3.2e-4, 0.9, 0]).claims}
    assert claims["grid-nearest"].measured == pytest.approx(10)
    assert claims["grid-nearest"].holds is False
    assert results_of([4e-3, 3.2e-5, 0.9, 0]).claims[0].holds is True


@pytest.mark.slow
def test_smoke_tier_says_what_it_must(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["reproduce", "gaussian-2d", "--tier", "smoke", "--out", str(out)]) == 0
    assert "report.html" in capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text())
    values = metrics["values"]
    wanted = "samples hallucinated hallucination_rate hal_auroc hal_kept_at_95_removed hal_removed_at_98_kept "
    wanted += "grid_nearest grid_second diamond_nearest diamond_second"
    assert set(wanted.split()) <= set(values)
    assert values["hallucination_rate"] == values["hallucinated"] / values["samples"]
    # the exact mass against the sampled rate: 5.5 standard errors are passed with probability 4e-8, and the
    # coarse grids of this tier are good to a few per cent
    for prefix in ("", "diamond_"):
        rate, exact = values[f"{prefix}hallucination_rate"], values[f"{prefix}exact_mass"]
        error = 5.5 * np.sqrt(rate * (1 - rate) / values["samples"]) + values[f"{prefix}exact_mass_error"] + 0.05 * rate
        assert abs(rate - exact) < error
    for name in metrics["figures"]:
        assert (out / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_that_is_not_shipped_for_these_settings_is_refused(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["reproduce", "gaussian-2d", "--timesteps", "500", "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith("error: pretrained")
    assert not out.exists()
