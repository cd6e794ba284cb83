"""Targets by their names, and those of the shipped models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from intermode.targets.gaussian import line
from intermode.targets.lattice import LATTICES
from intermode.targets.shapes import Shapes
from intermode.verbs import unknown

__all__ = ["NAMES", "SHIPPED", "named", "of_model"]

NAMES: Mapping[str, Callable[[], Any]] = {"line": line, **LATTICES, "shapes": Shapes}
SHIPPED: Mapping[str, Callable[[], Any]] = {
    "gaussian-1d": line,
    **LATTICES,
    **dict.fromkeys(("shapes", "shapes-under"), Shapes),
    "shapes-local": partial(Shapes, keep_blank=True),
}
"""What the shipped models were trained on."""


def named(name: str) -> Any:
    """The target of that name, as the paper has it.

    Raises:
        InputError: an unknown name.
    """
    if name not in NAMES:
        raise unknown("target", name, NAMES)
    return NAMES[name]()


def of_model(model: object) -> Any:
    """The target of a shipped model, by the model's name; None for others."""
    return SHIPPED[model]() if isinstance(model, str) and model in SHIPPED else None
