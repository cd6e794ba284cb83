"""The law of the reverse chain, carried without sampling."""

import numpy as np
import pytest

import intermode
from intermode.denoisers import MixtureDenoiser
from intermode.exact import off_support, propagate
from intermode.schedules import CLEAN, linear
from intermode.targets.gaussian import GaussianMixture, line

SCHEDULE = linear(1000, 0.001, 0.2)


@pytest.fixture(scope="module")
def learned():
    return off_support("gaussian-1d", line())


def test_the_shipped_model_has_its_mass(learned):
    """Frozen; 523 of a million samples are off the support (4.80e-4 to 5.70e-4)."""
    assert learned.value == pytest.approx(5.558e-4, rel=0.002)
    assert 0 < learned.error < 0.05 * learned.value
    assert learned.between + learned.beyond == pytest.approx(learned.value, rel=1e-6)
    assert learned.between > 0.9 * learned.value
    assert str(learned).startswith("5.5")
    assert "e-4 ± " in str(learned)


def test_the_true_score_leaves_almost_none():
    true = off_support(MixtureDenoiser(line(), SCHEDULE), line())
    assert true.value == pytest.approx(2.46e-8, rel=0.05)


def test_one_gaussian_stays_one():
    """Every step of the true chain is linear: the law of x_0 is that of the data."""
    target = GaussianMixture([[0.5]], 0.3)
    law = off_support(MixtureDenoiser(target, linear(200, 0.001, 0.2)), target).law
    mean = law.mass @ law.x_0[:, 0]
    assert law.mass.sum() == pytest.approx(1, abs=1e-6)
    assert mean == pytest.approx(0.5, abs=1e-3)
    # ancestral steps with the large variance end a little wider than the data
    assert np.sqrt(law.mass @ (law.x_0[:, 0] - mean) ** 2) == pytest.approx(0.3, rel=0.025)


def test_a_restart_with_the_true_score_makes_no_mass():
    denoiser = MixtureDenoiser(line(), SCHEDULE)
    before = off_support(denoiser, line()).law
    law = propagate(before, denoiser, [3, 2, 1, 0, CLEAN])
    assert law.mass[line().label(law.x_0).hallucinated].sum() < 1e-6
    edges = np.array([0.5, 1.5, 2.5, 3.5])
    assert law.histogram(edges) == pytest.approx(before.histogram(edges), abs=1e-6)


def test_a_late_restart_mends_the_shipped_model(learned):
    denoiser = intermode.load("gaussian-1d")
    law = propagate(learned.law, denoiser, [3, 2, 1, 0, CLEAN])
    mended = law.mass[line().label(law.x_0).hallucinated].sum()
    assert learned.value / mended > 3


def test_mass_outside_a_small_grid_is_not_taken_for_hallucinated(learned):
    found = off_support("gaussian-1d", line(), low=0.5, high=2)
    assert found.value == pytest.approx(learned.value, rel=0.02)
