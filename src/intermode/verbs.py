"""What all public functions share: no argument is swallowed, and what is misspelt is told.

>>> intermode.sample(model, 10, progres=True)
InputError: progres: is no argument of sample; did you mean progress?
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from intermode.errors import InputError
from intermode.progress import Bars, Progress, Silent

__all__ = ["nearest", "shown", "strict"]

P = ParamSpec("P")
R = TypeVar("R")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like this one, if any is."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)), None)


def strict(function: Callable[P, R]) -> Callable[P, R]:
    """A public function whose arguments that do not fit raise an InputError which says what would.

    An unknown keyword names the most similar one, or all of them; a missing argument and one too many are named too.
    """
    signature = inspect.signature(function)
    name = function.__name__

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for keyword in kwargs:
            if keyword not in signature.parameters:
                close = nearest(keyword, signature.parameters)
                hint = f"did you mean {close}?" if close else f"it takes {', '.join(signature.parameters)}"
                raise InputError(f"{keyword}: is no argument of {name}; {hint}")
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InputError(f"{name}: {error}; it takes {', '.join(signature.parameters)}") from None
        return function(*args, **kwargs)

    return checked


def shown(progress: Progress | bool | None) -> Progress:
    """Where progress goes: True shows bars on standard error, None and False show nothing."""
    if isinstance(progress, bool) or progress is None:
        return Bars() if progress else Silent()
    return progress
