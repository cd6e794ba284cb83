"""Options that commands share, each said once; imports of what they make happen when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from intermode.arguments import window_of
from intermode.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from intermode.denoisers import NetworkDenoiser
    from intermode.samplers import Sampler
    from intermode.schedules import Schedule

__all__ = [
    "CHAIN",
    "MACHINE",
    "SCORING",
    "WORK",
    "Chain",
    "Count",
    "Data",
    "Folder",
    "Level",
    "Limit",
    "Machine",
    "Model",
    "Scoring",
    "Stop",
    "Work",
    "level_of",
    "use",
]

Model = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="MODEL")]]
Data = tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="DATA")]]
Folder = tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
Count = Annotated[int, tyro.conf.arg(aliases=["-n"])]
Level = Annotated[str | None, tyro.conf.arg(metavar="T|SHARE|snr:LOW,HIGH")]
Stop = Annotated[str | None, tyro.conf.arg(metavar="auto|T|SHARE|snr:LOW,HIGH")]
Limit = Annotated[str | None, tyro.conf.arg(metavar="NUMBER|FILE")]
Where = Annotated[str | None, tyro.conf.arg(metavar="ray|ADDRESS")]
Names = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")]
Span = Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="LOW HIGH|snr:LOW,HIGH|critical")]


@dataclass(frozen=True)
class Noise:
    """Noise schedule."""

    schedule: Literal["auto", "linear", "cosine"] = "auto"
    """Of the noise; auto is linear for a few numbers and cosine for images."""
    timesteps: int = 1000
    """T of the schedule."""
    beta_start: float = 0.001
    """First beta of a linear schedule."""
    beta_end: float = 0.2
    """Last beta."""

    def made(self, image: bool) -> Schedule:
        from intermode.schedules import cosine, linear

        if self.schedule == "cosine" or (self.schedule == "auto" and image):
            return cosine(self.timesteps)
        return linear(self.timesteps, self.beta_start, self.beta_end)


@dataclass(frozen=True)
class Chain:
    """Reverse chain."""

    sampler: Literal["ancestral", "ddim"] = "ancestral"
    """Kind of chain."""
    steps: int | None = None
    """Respaced steps; all timesteps unless given."""
    variance: Literal["large", "small"] = "large"
    """Of ancestral steps."""
    eta: float = 0.0
    """Noise of DDIM, 0..1."""

    def made(self) -> Sampler:
        from intermode.samplers import DDIM, Ancestral

        if self.sampler == "ancestral":
            return Ancestral(self.variance, self.steps)
        return DDIM(self.eta, self.steps)


@dataclass(frozen=True)
class Scoring:
    """Scores: larger is more suspect."""

    detectors: Names = ()
    """Of docs/detectors.md, or module:Name of your own; unless given hal while samples are made, which costs nothing,
    and lid of finished ones."""
    window: Span = None
    """Of the detectors that look at timesteps: the first and last, the least and largest signal-to-noise ratio, or
    critical: those in which the model decides what a sample is."""
    count: int | None = None
    """How many timesteps of it they look at."""
    fit: Path | None = None
    """Training data, for the detectors that must see some: knn, realism, diffpath, ..."""
    labels: Path | None = None
    """Classes of the samples (.npy or .csv), for a model that is told them; unless given samples are made of all in
    turn, and finished ones scored under each: the smallest score counts."""

    def made(
        self, denoiser: NetworkDenoiser, where: Literal["sample", "finished"], sampler: Sampler | None = None
    ) -> list[Any]:
        from intermode.detect.registry import DEFAULTS, Setting, resolve

        window = None if self.window is None else window_of(self.window)
        setting = Setting(
            denoiser.shape,
            timesteps=len(denoiser.schedule),
            window=window,
            count=self.count,
            model=denoiser,
            sampler=sampler,
        )
        return resolve(self.detectors or (DEFAULTS[where],), setting, where)

    def data(self, denoiser: NetworkDenoiser) -> Tensor | None:
        from intermode.data import first_samples

        return None if self.fit is None else first_samples(self.fit, denoiser.shape)

    @property
    def condition(self) -> dict[str, np.ndarray] | None:
        from intermode.scores import read_classes

        return None if self.labels is None else {"class_labels": read_classes(self.labels, "labels")}


@dataclass(frozen=True)
class Machine:
    """How to compute."""

    seed: int = 0
    """Noise belongs to (seed, sample index)."""
    chunk: int | None = None
    """Samples computed together; as many as memory allows unless given."""
    device: str = "cpu"
    """cpu or cuda."""
    threads: int | None = None
    """torch's on a CPU, of each worker."""
    workers: int = 1
    """Processes that share the work."""
    on: Where = None
    """A Ray cluster that shares it: ray starts one here, ray://HOST:PORT is one that runs."""

    def use(self) -> None:
        use(self.device, self.threads)


@dataclass(frozen=True)
class Work:
    """Who does the work."""

    workers: int = 1
    """Jobs done at a time, each in a process of its own; 0 does none and reports those that are finished."""
    on: Where = None
    """A Ray cluster that does them: ray starts one here, ray://HOST:PORT is one that runs."""
    jobs: Path | None = None
    """Folder of finished jobs, in the run folder unless given; runs that share it share their work."""
    device: str = "cpu"
    """cpu or cuda."""
    threads: int = 1
    """torch's on a CPU, of each job; small batches are faster with one."""


NOISE, CHAIN, SCORING, MACHINE, WORK = Noise(), Chain(), Scoring(), Machine(), Work()


def level_of(word: str | None) -> Any:
    """A noise level to restart from, in words: a timestep, a share of T, or a range of signal-to-noise ratios."""
    if word is None:
        return None
    if word.startswith("snr:"):
        return window_of([word])
    try:
        return int(word) if word.lstrip("-").isdecimal() else float(word)
    except ValueError:
        raise InputError(f"level: {word} is none; give a timestep, a share of T, or snr:LOW,HIGH") from None


def use(device: str, threads: int | None = None) -> None:
    """Set torch's threads, and check that the device is there (:func:`intermode.values.check_machine`)."""
    from intermode.values import check_machine

    check_machine(device, threads)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
