"""Noise belongs to (seed, purpose, sample index) and to nothing else."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from intermode.noise import PURPOSES, TILE_NUMBERS, NoiseStream, draws, tile_size

# from one number a sample (4096 samples share a generator) to more numbers than a tile (one sample each)
SHAPES = [(1,), (3,), (2, 40), (TILE_NUMBERS,), (3, 40, 40)]


@pytest.mark.parametrize("shape", SHAPES)
@given(data=st.data())
def test_noise_of_a_sample_does_not_depend_on_the_batch_around_it(shape, data):
    total = 2 * tile_size(shape) + 5
    start = data.draw(st.integers(0, total - 1))
    count = data.draw(st.integers(1, total - start))
    whole, part = NoiseStream(7, 0, total, shape), NoiseStream(7, start, count, shape)
    for _ in range(2):
        assert torch.equal(part(), whole()[start : start + count])


@pytest.mark.parametrize("shape", SHAPES)
def test_tiles_hold_whole_samples(shape):
    assert tile_size(shape) == max(1, TILE_NUMBERS // int(np.prod(shape)))


def correlation(a, b):
    return abs(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_streams_that_differ_in_anything_are_independent():
    """|r| < 6/sqrt(n) fails by chance with p = 2e-9 a pair, under 1e-6 for all of them."""
    n = 3 * TILE_NUMBERS
    stream = NoiseStream(0, 0, n, (1,))
    batches = {"first": stream(), "second call": stream(), "seed": NoiseStream(1, 0, n, (1,))()}
    batches["next samples"] = NoiseStream(0, n, n, (1,))()
    batches |= {p: NoiseStream(0, 0, n, (1,), purpose=p)() for p in PURPOSES if p != "sample"}
    names = list(batches)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert correlation(batches[a].numpy(), batches[b].numpy()) < 6 / np.sqrt(n), (a, b)


def test_tiles_of_a_batch_are_independent():
    """|r| < 6/sqrt(n) fails by chance with p = 2e-9."""
    a, b = NoiseStream(0, 0, 2 * TILE_NUMBERS, (1,))().split(TILE_NUMBERS)
    assert correlation(a.numpy(), b.numpy()) < 6 / np.sqrt(TILE_NUMBERS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_is_standard_normal(dtype):
    """Kolmogorov-Smirnov at p > 1e-7, and the variance within 6 standard errors (p = 2e-9)."""
    x = NoiseStream(5, 0, 200_000, (1,), dtype=dtype)()
    assert x.dtype == dtype
    assert stats.kstest(x.numpy().ravel(), "norm").pvalue > 1e-7
    assert abs(x.double().var().item() - 1) < 6 * np.sqrt(2 / len(x))


def test_draws_repeat_and_differ_by_purpose_and_index():
    assert np.array_equal(draws(3, "data", 2).integers(2**63, size=8), draws(3, "data", 2).integers(2**63, size=8))
    keys = [(3, "data", 2), (4, "data", 2), (3, "train", 2), (3, "data", 3), (3, "data", 0)]
    assert len({int(draws(*key).integers(2**63)) for key in keys}) == len(keys)


def test_noise_leaves_the_global_generators_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    NoiseStream(5, 0, 100, (1,))()
    assert torch.equal(torch.get_rng_state(), before)
