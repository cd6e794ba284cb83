"""Scores of images: parts of re-noisings against one another and a closed form, and what is left at matched content."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from intermode.denoisers import Denoiser
from intermode.detect.bias import parts
from intermode.noise import NoiseStream
from intermode.schedules import cosine
from intermode.studies import image_scores as page


class Half(Denoiser):
    """Predicts half of what it sees."""

    schedule, dtype, shape = cosine(40), torch.float32, (1, 16, 16)

    def __call__(self, x_t, t, **condition):
        return x_t / 2


HOW = {"seed": 3, "noises": 4}


def test_parts_are_those_of_the_detector_and_patches_find_one_place():
    denoiser, rows = Half(), np.array([2, 5, 6])
    x = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    residual, bias, hal, bias_patch, hal_patch = page.maps(denoiser, x, 20, HOW, rows)
    noise = NoiseStream(3, 2, 3, (1, 16, 16), purpose="renoise", rows=rows, restart=20)
    expected = parts(denoiser, x, noise, (20,), 4)
    assert torch.allclose(residual, expected[0])
    assert torch.allclose(bias, expected[1])
    assert torch.allclose(residual, bias + 256 * hal)
    assert (bias_patch >= bias / 256 - 1e-12).all()  # the largest mean of patches that cover all evenly, and more
    assert (hal_patch >= hal * 0.9).all()
    spot = torch.zeros(1, 1, 16, 16)
    spot[0, 0, 4:12, 4:12] = 100.0  # a patch of its own
    bias_patch = page.maps(denoiser, spot, 0, HOW, np.array([0]))[3]
    a = float(np.sqrt(denoiser.schedule.alpha_bar[0]))
    assert float(bias_patch) == pytest.approx((100 * (1 - a / 2)) ** 2, rel=1e-2)


def test_noise_belongs_to_the_image():
    denoiser = Half()
    x = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    together = page.maps(denoiser, x, 20, HOW, np.array([0, 3, 8, 9]))
    alone = page.maps(denoiser, x[2:3], 20, HOW, np.array([8]))
    for whole, one in zip(together, alone, strict=True):
        assert torch.allclose(whole[2:3], one)


def test_rows_are_all_errors_and_twice_as_many_others_as_they_come():
    duplicate = np.zeros(100, dtype=bool)
    duplicate[[3, 50, 90]] = True
    assert page.chosen_rows(duplicate, 2).tolist() == [0, 1, 2, 3, 4, 50]
    assert len(page.chosen_rows(duplicate, 1000)) == 100


def population(n=6000, seed=0):
    """Errors hold more shapes, and white follows the shapes."""
    rng = np.random.default_rng(seed)
    content = rng.integers(1, 4, n)
    bad = rng.random(n) < np.array([0, 0.05, 0.2, 0.4])[content]
    white = content / 50 + rng.normal(0, 0.002, n)
    other = ~bad & (rng.random(n) < 0.1)
    return page.Truth(bad, ~bad & ~other, content, white), rng


def test_a_score_that_counts_is_at_chance_at_equal_content_and_one_that_knows_is_not():
    truth, rng = population()
    counting = page.judge("counts", {"": truth.white * 3 + 1}, truth, 0)
    assert counting.against_good.low > 0.65
    assert counting.at_equal_shapes.low < 0.5 < counting.at_equal_shapes.high
    assert counting.given_white.value == 0.5  # nothing is left of it, to the last digit
    assert not counting.tuned
    knowing = page.judge("knows", {"": rng.normal(size=len(truth.bad)) + 2 * truth.bad}, truth, 0)
    # two normal distributions 2 apart: Phi(sqrt(2)) = 0.921
    for estimate in (knowing.against_all, knowing.against_good, knowing.at_equal_shapes, knowing.given_white):
        assert estimate.low - 0.01 < 0.921 < estimate.high + 0.01
    assert 0 < knowing.removed.low <= knowing.removed.value < 1


def test_of_several_settings_the_best_is_chosen_on_one_half_and_judged_on_the_other():
    truth, rng = population()
    n = len(truth.bad)
    half = page.choosing_half(n)
    fooled = np.where(half, truth.bad, 0) + rng.normal(0, 0.01, n)  # knows the choosing half by heart
    honest = 0.5 * truth.bad + rng.normal(0, 1, n)
    found = page.judge("many", {"fooled": fooled, "honest": honest}, truth, 0)
    assert (found.setting, found.tuned) == ("fooled", True)
    assert found.at_equal_shapes.value < 0.6
    assert found.row["tuned on labels"] == "yes"


def test_too_few_images_are_not_judged():
    truth, _ = population(100)
    few = page.Truth(truth.bad & (np.cumsum(truth.bad) <= 9), truth.good, truth.content, truth.white)
    assert page.judge("white", {"": truth.white}, few, 0) is None
    some = page.Truth(truth.bad & (np.cumsum(truth.bad) <= 12), truth.good, truth.content, truth.white)
    assert page.judge("white", {"": truth.white}, some, 0).against_good.n == int((some.bad | some.good).sum())
    assert page.judge("white", {"a": truth.white, "b": -truth.white}, some, 0) is None  # six in a half


def test_infinite_scores_are_the_most_suspect():
    truth, _ = population(500)
    scores = np.where(truth.bad, np.inf, truth.white)
    found = page.judge("runs away", {"": scores}, truth, 0)
    assert found.against_good.value == 1
    assert np.isfinite(found.given_white.value)


def test_families_hold_a_score_for_each_level_and_one_in_the_critical_window():
    tensors = {f"part.{part}": torch.arange(6.0).reshape(2, 3) for part in page.PARTS}
    tensors |= {f"critical.{name}": torch.ones(3) for name in page.CRITICAL}
    found = page.families(SimpleNamespace(tensors=lambda: tensors), (5, 30))
    assert found["bias"]["t = 30"].tolist() == [3, 4, 5]
    assert found["residual, critical window"][""].tolist() == [1, 1, 1]
