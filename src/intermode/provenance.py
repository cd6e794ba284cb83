"""What a result was made with: commit, device and versions.

In a clone the commit is git's, of this moment. The version is that of the last installation, which may be older. A
wheel built between two releases has the commit it was built from in its version; a release is named by its version.
"""

from __future__ import annotations

import platform
import re
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["commit_of", "provenance"]


def provenance(device: str, threads: int | None = None) -> dict[str, Any]:
    """Commit, device and versions of this process.

    Args:
        device: cpu, cuda or cuda:i.
        threads: torch's on a CPU.
    """
    versions = {"python": platform.python_version()}
    for package in ("intermode", "torch", "numpy", "diffusers", "accelerate"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"commit": _commit(), "device": _device_name(device, threads), "versions": versions}


@cache
def _commit() -> str | None:
    """Commit of the source tree when the process asked first, with ``+`` if it was changed since; outside a clone that
    of the version, None if it names none."""
    here = Path(__file__).resolve().parent
    if not (here.parents[1] / ".git").exists():
        return commit_of(version("intermode"))

    def git(*args: str) -> str:
        try:
            return subprocess.run(
                ["git", "-C", str(here), *args], capture_output=True, text=True, check=False
            ).stdout.strip()
        except OSError:  # no git here
            return ""

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
    return (git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")) or None


def commit_of(built: str) -> str | None:
    """What setuptools-scm writes behind the number: ``0.2.dev5+g0123abcd``, ``.d`` and the day if it was changed."""
    found = re.search(r"\+g([0-9a-f]+)(\.d\d+)?$", built)
    return found[1] + ("+" if found[2] else "") if found else None


def _device_name(device: str, threads: int | None) -> str:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return f"CPU, {threads} thread{'s' if threads != 1 else ''}" if threads else "CPU"
