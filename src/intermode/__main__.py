"""``python -m intermode``, which launchers of many processes need."""

from __future__ import annotations

import sys

from intermode.cli import main

if __name__ == "__main__":
    sys.exit(main())
