"""Arguments that do not fit are refused in one line that says what would."""

import inspect

import pytest

from intermode.errors import InputError
from intermode.progress import Bars, Silent
from intermode.verbs import nearest, shown, strict


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
