"""The studies that come with the package, one page each; :mod:`intermode.study` says what a study is."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from intermode.verbs import unknown

if TYPE_CHECKING:
    from intermode.study import Study

__all__ = ["STUDIES", "find"]

STUDIES = {
    "gaussian-1d": "gaussian_1d",
    "gaussian-1d-sweeps": "gaussian_1d_sweeps",
    "score-field": "score_field",
    "origin": "origin",
    "gaussian-2d": "gaussian_2d",
    "recursion-2d": "recursion_2d",
    "shapes": "shapes",
    "shapes-causes": "shapes_causes",
    "critical-windows": "critical_windows",
    "recursion-shapes": "recursion_shapes",
    "recursion-mnist": "recursion_mnist",
    "bench": "bench",
    "mitigations": "mitigations",
}
"""Module of each study, by its name."""


def find(name: str) -> Study:
    """The study of that name.

    Raises:
        InputError: an unknown name, with the nearest known one.
    """
    if name not in STUDIES:
        raise unknown("study", name, STUDIES)
    study: Study = import_module(f"{__name__}.{STUDIES[name]}").STUDY
    return study
