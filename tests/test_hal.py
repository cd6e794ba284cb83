"""Hal is the population variance of x0_hat over the window, however extreme the numbers."""

import pickle
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intermode.denoisers import MixtureDenoiser, NetworkDenoiser
from intermode.detect import Window
from intermode.detect.hal import Hal, HalRenoise
from intermode.errors import InputError
from intermode.noise import NoiseStream
from intermode.samplers import Ancestral, Step
from intermode.sampling import score


def fold(detector, predictions):
    """Feeds {t: x0_hat} from the largest t down, as a sampler does, and returns the scores."""
    detector.start(next(iter(predictions.values())).shape)
    for index, t in enumerate(sorted(predictions, reverse=True)):
        detector.update(Step(index, t, predictions[t], predictions[t], predictions[t]))
    return detector.score().numpy()


def numpy_hal(predictions, low, high):
    stored = np.stack([x.double().numpy() for t, x in predictions.items() if low <= t <= high])
    return stored.var(axis=0).reshape(stored.shape[1], -1).mean(axis=1)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("network_made", [False, True], ids=["closed form", "network"])
def test_hal_is_numpys_var_over_the_stored_predictions(schedule, uneven, network, network_made):
    """Of the same run, with respaced steps and a window that begins above 0."""
    denoiser = NetworkDenoiser(network(), schedule) if network_made else MixtureDenoiser(uneven, schedule)
    noise = NoiseStream(0, 0, 200, (1,))
    detector, stored = Hal(3, 21), {}
    x_T = noise()
    detector.start(x_T.shape)
    for step in Ancestral(steps=30)(denoiser, x_T, noise):
        detector.update(step)
        stored[step.t] = step.x0_hat.clone()
    assert np.allclose(detector.score().numpy(), numpy_hal(stored, 3, 21), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hal_keeps_its_digits_where_a_difference_of_squares_loses_all(dtype):
    """Values near 1e3, variance near 1e-6: 1e6 ± 1e-6 is beyond float64's difference of squares at 1e-6."""
    predictions = {t: 1e3 + 1e-3 * normal(50, 2, 3, seed=t, dtype=dtype) for t in range(16)}
    expected = numpy_hal(predictions, 0, 15)
    assert 1e-7 < expected.mean() < 1e-5
    assert np.allclose(fold(Hal(0, 15), predictions), expected, rtol=1e-6, atol=0)


@given(
    steps=st.integers(2, 12),
    low=st.integers(0, 6),
    length=st.integers(1, 8),
    scale=st.sampled_from([1e-6, 1.0, 1e3]),
    shift=st.sampled_from([0.0, -5.0, 1e3]),
)
def test_hal_of_any_window_is_numpys_var(steps, low, length, scale, shift):
    predictions = {t: shift + scale * normal(3, 2, seed=t) for t in range(low, low + steps)}
    expected = numpy_hal(predictions, low, low + length)
    # numpy's own rounding of values of this size, squared, is the floor
    floor = (1e-15 * (abs(shift) + scale)) ** 2 + 1e-15 * abs(shift) * scale
    assert np.allclose(fold(Hal(low, low + length), predictions), expected, rtol=1e-6, atol=floor)


def test_both_ends_of_the_window_count_and_nothing_beyond_them():
    predictions = {t: normal(10, 1, seed=t) for t in range(12)}
    base = fold(Hal(3, 8), predictions)
    for t in range(12):
        changed = {**predictions, t: predictions[t] + 1.0}
        assert np.allclose(fold(Hal(3, 8), changed), base, rtol=1e-12) == (not 3 <= t <= 8), t


def test_hal_begins_anew_with_every_batch():
    first, second = ({t: normal(n, 1, seed=9 * n + t) for t in range(5)} for n in (10, 4))
    detector = Hal(0, 4)
    fold(detector, first)
    assert np.array_equal(fold(detector, second), fold(Hal(0, 4), second))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("at", [0, 2, 4])
def test_a_prediction_that_is_not_finite_is_most_suspect(value, at):
    """Whenever it happens in the window, and without touching the other samples."""
    predictions = {t: normal(4, 2, seed=t) for t in range(5)}
    expected = fold(Hal(0, 4), predictions)
    predictions[at][1, 1] = value
    scores = fold(Hal(0, 4), predictions)
    assert scores[1] == np.inf
    assert np.array_equal(scores[[0, 2, 3]], expected[[0, 2, 3]])


def test_memory_does_not_grow_with_the_steps():
    """Neither the detector's own state nor the steps it has seen stay behind."""
    sizes, seen = [], []
    for steps in (5, 200):
        detector = Hal(0, 1000)
        detector.start((100, 2))
        for t in reversed(range(steps)):
            x = normal(100, 2, seed=t)
            detector.update(Step(0, t, x, x, x))
            seen.append(weakref.ref(x))
        sizes.append(len(pickle.dumps(detector)))
    assert sizes[1] - sizes[0] < 100  # bytes: a counter may get longer, 195 stored steps would be 312,000
    del x
    assert not any(ref() is not None for ref in seen)


def test_scores_are_float64_one_for_each_sample():
    detector = Hal(0, 3)
    scores = fold(detector, {t: normal(7, 1, 4, 4, seed=t, dtype=torch.float32) for t in range(4)})
    assert scores.dtype == np.float64
    assert scores.shape == (7,)


# windows and misuse


@pytest.mark.parametrize(("low", "high"), [(-1, 5), (6, 5)])
def test_empty_and_negative_windows_are_refused(low, high):
    with pytest.raises(InputError, match="window"):
        Window(low, high)


@pytest.mark.parametrize(
    ("window", "steps", "good"),
    [
        (Window(0, 39), None, True),
        (Window(0, 40), None, False),  # outside [0, T)
        (Window(38, 39), None, True),
        (Window(39, 39), None, False),  # no variance of one value
        (Window(1, 12), 4, False),  # respaced to 39, 26, 13, 0: none of them
        (Window(0, 12), 4, False),  # one of them
        (Window(0, 13), 4, True),
    ],
)
def test_a_window_needs_two_visited_timesteps(schedule, window, steps, good):
    visited = schedule.respaced(steps)
    if good:
        window.check(schedule, visited)
    else:
        with pytest.raises(InputError, match="window"):
            window.check(schedule, visited)


def test_a_score_without_steps_and_a_wrong_batch_are_refused():
    detector = Hal(0, 3)
    detector.start((5, 1))
    with pytest.raises(InputError, match="window"):
        detector.score()
    x = normal(4, 1)
    with pytest.raises(InputError, match="shape"):
        detector.update(Step(0, 2, x, x, x))


# re-noising


def naive_renoise(denoiser, x, timesteps, seed):
    """One sample at a time: the k-th noise of a sample belongs to the k-th timestep."""
    schedule, scores = denoiser.schedule, []
    for i in range(len(x)):
        noise = NoiseStream(seed, i, 1, x.shape[1:], purpose="renoise")
        predictions = []
        for t in timesteps:
            x_t = schedule.signal[t] * x[i : i + 1] + schedule.noise[t] * noise()
            predictions.append(denoiser(x_t.float(), t)[0].double().numpy())
        scores.append(np.var(predictions, axis=0).mean())
    return np.array(scores)


def test_renoise_equals_a_naive_computation(schedule, uneven):
    denoiser = MixtureDenoiser(uneven, schedule)
    x = uneven.sample(30, seed=1)
    scores = score(HalRenoise(2, 20, 4), denoiser, x, seed=5, chunk=8)
    expected = naive_renoise(denoiser, x, (2, 8, 14, 20), seed=5)
    assert np.allclose(scores, expected, rtol=1e-3, atol=1e-9)


def test_renoise_depends_on_seed_and_index_alone(schedule, uneven):
    denoiser = MixtureDenoiser(uneven, schedule)
    x = uneven.sample(40, seed=1)
    detector = HalRenoise(0, 20, 5)
    scores = score(detector, denoiser, x, seed=5, chunk=16)
    assert np.array_equal(score(detector, denoiser, x, seed=5, chunk=16), scores)
    assert not np.isclose(score(detector, denoiser, x, seed=6, chunk=16), scores, rtol=1e-6).any()
    twins = score(detector, denoiser, x[:1].expand(40, 1), seed=5, chunk=16)
    assert len(np.unique(twins)) == 40  # equal samples, each with its own noise


@given(low=st.integers(0, 200), extra=st.integers(1, 300), data=st.data())
def test_renoise_spreads_distinct_timesteps_over_the_whole_window(low, extra, data):
    high = low + extra
    count = data.draw(st.integers(2, extra + 1))
    timesteps = HalRenoise(low, high, count).timesteps
    gaps = np.diff(timesteps)
    assert (timesteps[0], timesteps[-1], len(timesteps)) == (low, high, count)
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1


def test_renoise_of_a_sample_that_is_not_finite_is_most_suspect(schedule, uneven):
    x = uneven.sample(5, seed=1)
    x[2] = torch.nan
    scores = score(HalRenoise(0, 20, 5), MixtureDenoiser(uneven, schedule), x)
    assert np.flatnonzero(np.isinf(scores)).tolist() == [2]


@pytest.mark.parametrize("count", [1, 7])
def test_renoise_refuses_a_count_the_window_cannot_hold(count):
    with pytest.raises(InputError, match=r"count: .* 2\.\.6"):
        HalRenoise(0, 5, count)


def test_renoise_refuses_a_window_outside_the_timesteps(schedule):
    with pytest.raises(InputError, match="window"):
        HalRenoise(30, 40, 3).check(schedule)
