"""Arguments that do not fit are refused in one line that says what would."""

import inspect

import numpy as np
import pytest
import torch

from intermode.errors import InputError
from intermode.progress import Bars, Silent
from intermode.verbs import as_samples, nearest, shown, strict


@strict
def draw(model, n, *, seed=0, progress=None):
    """Draws."""
    return model, n, seed, progress


def refusal(*args, **kwargs):
    with pytest.raises(InputError) as caught:
        draw(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_fits_is_passed_on_and_the_signature_stays():
    assert draw("m", 3, progress=1) == draw(model="m", n=3, progress=1) == ("m", 3, 0, 1)
    assert (draw.__name__, draw.__doc__) == ("draw", "Draws.")
    assert list(inspect.signature(draw).parameters) == ["model", "n", "seed", "progress"]


def test_a_misspelt_keyword_is_told_what_was_meant():
    assert refusal("m", 3, progres=1) == "progres: is no argument of draw; did you mean progress?"
    assert refusal("m", 3, zzz=1) == "zzz: is no argument of draw; it takes model, n, seed, progress"


def test_missing_and_superfluous_arguments_are_named():
    assert "'n'" in refusal("m")
    assert "too many positional" in refusal("m", 3, 4)
    assert "'n'" in refusal("m", 3, n=4)


def test_a_type_error_within_is_not_taken_for_a_wrong_argument():
    @strict
    def fails(x):
        return x + "a"

    with pytest.raises(TypeError, match="unsupported operand"):
        fails(1)


def test_the_nearest_name_is_found_where_one_is_near():
    assert nearest("lod", ["hal", "lid", "knn"]) == "lid"
    assert nearest("zzzz", ["hal", "lid", "knn"]) is None


def test_progress_is_shown_where_it_is_asked_for():
    assert isinstance(shown(None), Silent)
    assert isinstance(shown(False), Silent)
    assert isinstance(shown(True), Bars)
    own = Silent()
    assert shown(own) is own


@pytest.mark.parametrize(
    ("values", "shape", "expected"),
    [
        (3, (1,), [[3.0]]),
        ([1, 2], (1,), [[1.0], [2.0]]),
        ([1, 2], (2,), [[1.0, 2.0]]),
        ([[1, 2], [3, 4]], (2,), [[1.0, 2.0], [3.0, 4.0]]),
        (np.float64(0.5), None, [[0.5]]),
        (torch.zeros(1, 1, 1), (1, 1, 1), [[[[0.0]]]]),
    ],
)
def test_samples_are_numbers_in_any_form(values, shape, expected):
    found = as_samples("x", values, shape)
    assert torch.equal(found.double(), torch.tensor(expected, dtype=torch.float64))


def test_precision_and_gradients_of_samples():
    assert as_samples("x", np.zeros((2, 3))).dtype == torch.float64
    assert as_samples("x", [[1, 2]]).dtype == torch.float32
    assert not as_samples("x", torch.ones(2, 2, requires_grad=True)).requires_grad


@pytest.mark.parametrize("own", [(6, 5, 3), (6, 5), (1, 6, 5), (3, 6, 5)])
@pytest.mark.parametrize("known", [True, False])
def test_bytes_are_pixels_and_channels_come_first(own, known):
    pixels = np.random.default_rng(0).integers(0, 256, (6, *own), dtype=np.uint8)
    shape = {(6, 5, 3): (3, 6, 5), (6, 5): (1, 6, 5)}.get(own, own)
    first = np.moveaxis(pixels, -1, 1) if own == (6, 5, 3) else pixels.reshape(6, *shape)
    found = as_samples("x", pixels, shape if known else None)
    assert torch.equal(found, torch.from_numpy(first.astype(np.float32)) / 127.5 - 1)


def test_samples_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"x: samples of shape \(3,\); must be \(2,\)"):
        as_samples("x", np.zeros((4, 3)), (2,))
    for bad in ("abc", [[1], [1, 2]], None, object()):
        with pytest.raises(InputError, match="x: must be an array of numbers"):
            as_samples("x", bad)
