"""What all public functions share: no argument is swallowed, what is misspelt is told, and numbers come in any form.

>>> intermode.sample(model, 10, progres=True)
InputError: progres: is no argument of sample; did you mean progress?
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from intermode.errors import InputError
from intermode.progress import Bars, Progress, Silent

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["as_samples", "nearest", "shown", "strict", "unknown"]

P = ParamSpec("P")
R = TypeVar("R")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like this one, if any is."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)), None)


def unknown(field: str, name: str, known: Iterable[str]) -> InputError:
    """The error of a name that is none of those known: the one most like it, and all of them."""
    known = list(known)
    close = nearest(name, known)
    hint = f"; did you mean {close}?" if close else ""
    return InputError(f"{field}: unknown {name!r}{hint} (choose from {', '.join(known)})")


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


def as_samples(name: str, values: Any, shape: tuple[int, ...] | None = None) -> Tensor:
    """(n, *shape) samples from a tensor, an array, a list or a number, floating-point and where they are.

    One sample without the first dimension is one, and n numbers are n samples of one number. Bytes in the form of
    images, (n, H, W), (n, H, W, C) or (n, C, H, W), are pixels: 0..255 becomes -1..1.

    Args:
        name: of the argument, for errors.
        values: the samples.
        shape: of one sample, if it is known.

    Raises:
        InputError: no numbers, rows of several lengths, or samples of another shape.
    """
    import numpy as np
    import torch

    from intermode.data.pixels import arrange

    if not isinstance(values, torch.Tensor):
        try:
            values = torch.from_numpy(np.array(values))
        except (TypeError, ValueError):  # rows of several lengths, or no numbers at all
            raise InputError(f"{name}: must be an array of numbers (n, *shape of one), a list or a tensor") from None
    x: Tensor = values.detach()
    if tuple(x.shape) == shape:
        x = x[None]
    if x.ndim < 2:
        x = x.reshape(-1, 1)
    own = tuple(x.shape[1:])
    if x.dtype == torch.uint8 and len(own) >= 2:
        if shape is None:
            last = len(own) == 3 and own[0] not in (1, 3, 4) and own[2] in (1, 3, 4)
            shape = (1, *own) if len(own) == 2 else (own[2], *own[:2]) if last else own
        pixels = arrange(x.cpu().numpy(), shape)
        x, own = (x, own) if pixels is None else (torch.from_numpy(pixels), shape)
    if shape is not None and own != shape:
        raise InputError(f"{name}: samples of shape {own}; must be {shape}")
    return x if x.is_floating_point() else x.to(torch.float32)
