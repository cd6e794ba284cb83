"""The one exception for input that cannot be used.

Its message is one line that names the field and the values that are allowed. The command line prints
it as it is and exits with status 2.
"""

from __future__ import annotations

import errno

__all__ = ["InputError", "told"]


class InputError(ValueError):
    """A value, file or folder given by the user that cannot be used."""


def told(error: Exception) -> tuple[str, int]:
    """What to tell the user of an error, in one line, and the exit status; a mistake in the program is raised again."""
    if isinstance(error, InputError):
        return str(error), 2
    if isinstance(error, FloatingPointError):
        return str(error), 1
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        more = "; free some space and run the same command again" if full else ""
        return f"{where}{error.strerror or error}{more}", 2
    # torch says it in words on a CPU, by a class of its own on a GPU
    words = f"{type(error).__name__} {error}".lower()
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in words):
        return "out of memory; ask for fewer samples or timesteps, or a smaller batch, chunk or width", 2
    raise error
