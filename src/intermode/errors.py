"""The one exception for input that cannot be used.

Its message is one line that names the field and the values that are allowed. The command line prints
it as it is and exits with status 2.
"""

from __future__ import annotations

__all__ = ["InputError"]


class InputError(ValueError):
    """A value, file or folder given by the user that cannot be used."""
