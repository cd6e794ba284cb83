"""What ``import intermode`` gives: these names and no others, and nothing is loaded before it is used."""

import importlib
import inspect
import subprocess
import sys

import pytest

import intermode
from intermode.errors import InputError

VERBS = [
    *("load", "train", "sample", "score", "filter", "repair", "off_support", "watch", "critical_windows"),
    *("reproduce", "bench", "report", "explore", "explain", "animate"),
]
NOUNS = [
    *("Ancestral", "DDIM", "Restart", "Sampler", "linear", "cosine", "GaussianMixture", "line", "grid", "diamond"),
    *("Hal", "HalRenoise", "Window", "SNR", "Fraction", "Threshold", "Samples", "Repair", "Repaired", "InputError"),
    *("CriticalWindows", "EarlyStop", "EarlyStopped"),
]


def test_the_public_names_are_these():
    assert dir(intermode) == sorted(intermode.__all__) == sorted(VERBS + NOUNS)
    assert len(dir(intermode)) == 38


@pytest.mark.parametrize("name", VERBS + NOUNS)
def test_every_public_name_imports_and_is_said_what_it_is(name):
    found = getattr(intermode, name)
    assert callable(found)
    assert found.__name__ == name
    assert inspect.getdoc(found)
    assert getattr(importlib.import_module(found.__module__), name) is found


def test_no_verb_is_named_as_a_module():
    """``import intermode.x`` would put the module in the function's place."""
    for name in VERBS:
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(f"intermode.{name}")


def test_importing_loads_nothing_heavy_and_completion_shows_the_public_names():
    code = (
        "import sys, intermode; assert 'torch' not in sys.modules and 'numpy' not in sys.modules;"
        "import intermode.sampling; intermode.watch; print(*dir(intermode))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == sorted(VERBS + NOUNS)


def test_what_is_for_experts_is_not_found_here():
    for name in ("Plan", "TrainConfig", "generate", "sampl"):
        with pytest.raises(AttributeError, match=name):
            getattr(intermode, name)


ARGUMENTS = {
    "load": ("name_or_foldr", "name_or_folder"),
    "train": ("learning_rat", "learning_rate"),
    "sample": ("progres", "progress"),
    "score": ("detectrs", "detectors"),
    "filter": ("labls", "labels"),
    "critical_windows": ("levls", "levels"),
    "repair": ("leve", "level"),
    "off_support": ("samplr", "sampler"),
    "watch": ("decod", "decode"),
    "reproduce": ("teir", "tier"),
    "bench": ("teir", "tier"),
    "report": ("rn", "run"),
    "explore": ("scors", "scores"),
    "explain": ("indx", "index"),
    "animate": ("targt", "target"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_misspelt_argument_is_told_what_was_meant(verb):
    misspelt, meant = ARGUMENTS[verb]
    with pytest.raises(InputError) as caught:
        getattr(intermode, verb)(**{misspelt: 1})
    assert str(caught.value) == f"{misspelt}: is no argument of {verb}; did you mean {meant}?"


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_swallows_keywords(verb):
    assert hasattr(getattr(intermode, verb), "__wrapped__")  # strict
    kinds = {parameter.kind for parameter in inspect.signature(getattr(intermode, verb)).parameters.values()}
    assert inspect.Parameter.VAR_POSITIONAL not in kinds
    assert inspect.Parameter.VAR_KEYWORD not in kinds
