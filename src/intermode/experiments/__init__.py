"""The paper's experiments, one file each: a config dataclass, its tiers, and ``run``.

This list is read by ``intermode list`` and must stay importable without torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from intermode.errors import InputError

__all__ = ["EXPERIMENTS", "TIERS", "Experiment", "find"]

TIERS = {
    "smoke": "seconds, for tests",
    "quick": "minutes on two CPU cores, from scratch",
    "paper": "the paper's sizes, for a GPU",
}


@dataclass(frozen=True)
class Experiment:
    """An entry of the list.

    Attributes:
        module: in this package; has ``TIERS`` {name: Config} and ``run(run, config) -> Results``.
        figures: of the paper.
        summary: one line.
        expected: time by tier, on two CPU cores; for the paper tier estimated from the operations on a data-centre GPU.
    """

    module: str
    figures: str
    summary: str
    expected: Mapping[str, str]

    def load(self) -> ModuleType:
        """The module itself, which imports torch."""
        return import_module(f"{__name__}.{self.module}")


EXPERIMENTS = {
    "gaussian-1d": Experiment(
        "gaussian_1d",
        "Figs. 2, 5a, 6a",
        "A model of a 1-D mixture hallucinates between modes; its own trajectory tells",
        {"smoke": "10 s", "quick": "3 min", "paper": "~20 min, GPU"},
    ),
    "gaussian-1d-sweeps": Experiment(
        "gaussian_1d_sweeps",
        "Figs. 9-12",
        "The off-support mass against training size, number and distance of modes, and T",
        {"smoke": "30 s", "quick": "15 min", "paper": "~10 h, GPU"},
    ),
    "score-field": Experiment(
        "score_field",
        "Fig. 4",
        "True and learned score and x0_hat; the control run with the true score",
        {"smoke": "10 s", "quick": "3 min", "paper": "~10 min, GPU"},
    ),
    "gaussian-2d": Experiment(
        "gaussian_2d",
        "Figs. 3, 5b, 6b",
        "A grid and a diamond of 25 modes: only nearest neighbours are interpolated",
        {"smoke": "40 s", "quick": "10 min", "paper": "~1 h, GPU"},
    ),
    "recursion-2d": Experiment(
        "recursion_2d",
        "Figs. 7, 8a",
        "Training on one's own output: collapse, and how filtering slows it",
        {"smoke": "30 s", "quick": "15 min", "paper": "~7 h, GPU"},
    ),
    "shapes": Experiment(
        "shapes",
        "Figs. 1, 6c, 14-16",
        "A U-Net draws two shapes of a kind, which its data never has; an exact oracle and Hal find them",
        {"smoke": "10 s", "quick": "12 min", "paper": "~8 h, GPU"},
    ),
    "recursion-shapes": Experiment(
        "recursion_shapes",
        "Fig. 8b",
        "Training on one's own images: hallucinations multiply, and how filtering slows it",
        {"smoke": "30 s", "quick": "50 min", "paper": "~40 h, GPU"},
    ),
    "recursion-mnist": Experiment(
        "recursion_mnist",
        "Figs. 8c, 13",
        "Real digits: what filtering after the fact does to collapse, where nobody can label a hallucination",
        {"smoke": "40 s", "quick": "40 min", "paper": "~60 h, GPU"},
    ),
    "bench": Experiment(
        "bench",
        "–",
        "Which detector is best: all of them on the same samples, where the truth is known",
        {"smoke": "20 s", "quick": "25 min", "paper": "~10 h"},
    ),
}


def nearest(name: str, known: Mapping[str, object]) -> str:
    """A hint at what was meant."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return (f"; did you mean {close[0]}?" if close else "") + f" (choose from {', '.join(known)})"


def find(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        InputError: an unknown name, with the nearest known one.
    """
    if name not in EXPERIMENTS:
        raise InputError(f"experiment: unknown {name!r}{nearest(name, EXPERIMENTS)}")
    return EXPERIMENTS[name]
