"""A run as a folder: ``config.json``, ``metrics.json``, ``figures/``, ``model/``, ``samples.safetensors``,
``report.html``.

The same command on the same folder goes on where a killed run was. A folder with another run's config is refused.
"""

from __future__ import annotations

import json
import platform
import subprocess
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from intermode.errors import InputError
from intermode.evaluation import Estimate
from intermode.files import read_json, write_json
from intermode.progress import Progress, Silent

__all__ = ["Claim", "Results", "Run", "at_least", "below", "provenance"]


@dataclass(frozen=True)
class Claim:
    """A statement of the paper beside what was measured.

    Attributes:
        id: short name, unique within the experiment.
        statement: what is claimed.
        paper: what the paper reports, in words or as a number.
        measured, low, high: the measured value and its 95 % interval; None where nothing could be measured.
        holds: True, False, or None if this run is too small to decide.
    """

    id: str
    statement: str
    paper: str
    measured: float | None
    low: float | None
    high: float | None
    holds: bool | None


def at_least(estimate: Estimate, bound: float) -> bool | None:
    """Whether a measured value reaches ``bound``: True or False only if its whole interval agrees."""
    if estimate.low >= bound:
        return True
    return False if estimate.high < bound else None


def below(name: str, statement: str, paper: str, estimate: Estimate, bound: float) -> Claim:
    """A claim that a value lies under ``bound``: decided only if its whole interval agrees.

    An interval without width comes from a single seed: it decides nothing, and is not shown.
    """
    if estimate.low == estimate.high:
        return Claim(name, statement, paper, estimate.value, None, None, None)
    holds = True if estimate.high < bound else False if estimate.low >= bound else None
    return Claim(name, statement, paper, estimate.value, estimate.low, estimate.high, holds)


@dataclass
class Results:
    """What an experiment found.

    Attributes:
        values: numbers by name.
        claims: the paper's statements with what was measured.
        series: the tables behind curves.
        figures: caption of each figure, in the order of the report.
        notes: findings in words, made from the numbers.
        rows: of a table that compares many things, each with the same keys.
    """

    values: dict[str, float | int | None] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    series: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)


def provenance(device: str, threads: int | None = None) -> dict[str, Any]:
    """Commit, device and versions that produced a result."""
    versions = {"python": platform.python_version()}
    for package in ("intermode", "torch", "numpy", "diffusers", "accelerate"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"commit": _commit(), "device": _device_name(device, threads), "versions": versions}


def _commit() -> str | None:
    """Commit of the source tree, with ``+`` if it was changed since; None if not run from a clone."""
    here = Path(__file__).resolve().parent
    if not (here.parents[1] / ".git").exists():
        return None

    def git(*args: str) -> str:
        try:
            return subprocess.run(
                ["git", "-C", str(here), *args], capture_output=True, text=True, check=False
            ).stdout.strip()
        except OSError:  # no git here
            return ""

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
    return (git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")) or None


def _device_name(device: str, threads: int | None) -> str:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return f"CPU, {threads} thread{'s' if threads != 1 else ''}" if threads else "CPU"


class Run:
    """A run folder.

    Args:
        path: the folder.
        experiment, tier: its names.
        config: the experiment's config dataclass.
        progress: shown to the user.

    Raises:
        InputError: a folder that holds a run of another config, or something that is no run.
    """

    def __init__(self, path: Path, experiment: str, tier: str, config: Any, progress: Progress | None = None) -> None:
        self.path, self.experiment, self.tier, self.config = path, experiment, tier, config
        self.progress = progress or Silent()
        self._begin = time.monotonic()
        # as it reads back from JSON: tuples become lists
        wanted = json.loads(json.dumps({"experiment": experiment, "tier": tier, "config": asdict(config)}))
        record = path / "config.json"
        if record.exists():
            _check_same(path, read_json(record), wanted)
        elif path.exists() and not path.is_dir():
            raise InputError(f"out: {path} is a file; choose a folder")
        elif path.exists() and any(path.iterdir()):
            raise InputError(f"out: {path} is not empty and holds no run; choose another folder")
        else:
            write_json(record, wanted)

    def figure(self, name: str) -> Path:
        """Where a figure goes."""
        return self.path / "figures" / f"{name}.png"

    def finish(self, results: Results, device: str, threads: int | None = None) -> dict[str, Any]:
        """Write ``metrics.json`` and return it."""
        ids = [claim.id for claim in results.claims]
        assert len(ids) == len(set(ids)), f"claim ids repeat: {ids}"
        earlier = self.path / "metrics.json"
        # a finished run that is only looked at again keeps the time that it took
        wall = read_json(earlier)["wall_s"] if earlier.exists() else self._wall()
        metrics = {
            "experiment": self.experiment,
            "tier": self.tier,
            "seed": getattr(self.config, "seed", None),
            **provenance(device, threads),
            "wall_s": wall,
            "config": asdict(self.config),
            "values": results.values,
            "claims": [asdict(claim) for claim in results.claims],
            "series": results.series,
            "figures": results.figures,
            "notes": results.notes,
            **({"rows": results.rows} if results.rows else {}),
        }
        write_json(earlier, metrics)
        (self.path / "wall.json").unlink(missing_ok=True)
        return metrics

    def keep_time(self) -> None:
        """Record the time spent so far, so that a killed run's time is not lost."""
        write_json(self.path / "wall.json", self._wall())
        self._begin = time.monotonic()

    def _wall(self) -> float:
        record = self.path / "wall.json"
        earlier = float(read_json(record)) if record.exists() else 0.0
        return round(earlier + time.monotonic() - self._begin, 2)


def _check_same(path: Path, found: Any, wanted: dict[str, Any]) -> None:
    if not isinstance(found, dict) or not wanted.keys() <= found.keys():
        raise InputError(f"out: {path} holds a config.json that is no run's; choose another folder")
    for key in ("experiment", "tier"):
        if found[key] != wanted[key]:
            raise InputError(f"out: {path} holds a run of {key} {found[key]}, not {wanted[key]}; choose another folder")
    there, here = found["config"], wanted["config"]
    differing = [k for k in {**there, **here} if there.get(k) != here.get(k)]
    if differing:
        listed = ", ".join(f"{k} is {there.get(k)} there and {here.get(k)} here" for k in differing)
        raise InputError(f"out: {path} holds a run of another config ({listed}); choose another folder")
