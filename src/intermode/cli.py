"""The command line. Only this module prints; heavy imports happen in the command that needs them."""

from __future__ import annotations

import errno
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from intermode.errors import InputError
from intermode.experiments import EXPERIMENTS, TIERS, find, nearest

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from intermode.threshold import Threshold

__all__ = ["main"]

OVERVIEW = """\
usage: intermode COMMAND ...

Find, explain and remove the hallucinations of diffusion models.

commands:
  list        the paper's experiments, their figures, tiers and expected times
  reproduce   run an experiment: claims with intervals, figures, a report
  train       train a model on an array of samples
  sample      draw samples from a model, with Hal for each
  score       score finished samples, wherever they come from
  filter      keep the samples under a threshold
  report      write a run's report again

intermode COMMAND --help explains a command."""


def _parse(options: type, args: Sequence[str], name: str, description: str) -> Any:
    return tyro.cli(options, args=args, prog=f"intermode {name}", description=description)


def _console() -> Console:
    from rich.console import Console

    # a pipe has no width of its own: lines should not break at 80 there
    return Console() if sys.stdout.isatty() else Console(width=140)


def _list(args: Sequence[str]) -> None:
    @dataclass
    class Options:
        pass

    _parse(Options, args, "list", "The paper's experiments, their figures, tiers and expected times.")
    from rich.table import Table

    table = Table(
        "experiment", "paper", "what it shows", *TIERS, caption=", ".join(f"{k}: {v}" for k, v in TIERS.items())
    )
    for name, entry in EXPERIMENTS.items():
        table.add_row(name, entry.figures, entry.summary, *(entry.expected[tier] for tier in TIERS))
    _console().print(table)


def _flag(args: Sequence[str], name: str, default: str) -> str:
    """The value of a flag before the real parser knows which options there are."""
    for i, word in enumerate(args):
        if word == name and i + 1 < len(args):
            return args[i + 1]
        if word.startswith(f"{name}="):
            return word.split("=", 1)[1]
    return default


def _reproduce(args: Sequence[str]) -> None:
    if not args or args[0] in ("-h", "--help"):
        print(
            "usage: intermode reproduce EXPERIMENT [--tier smoke|quick|paper] [--out FOLDER] ...\n\n"
            "Runs an experiment of the paper; the same command again goes on where it was interrupted.\n"
            f"Experiments: {', '.join(EXPERIMENTS)}.\n"
            "intermode reproduce EXPERIMENT --help shows its settings."
        )
        return
    name, *rest = args
    entry = find(name)
    tier = _flag(rest, "--tier", "quick")
    if tier not in TIERS:
        raise InputError(f"tier: unknown {tier!r}{nearest(tier, TIERS)}")
    module = entry.load()
    default = module.TIERS[tier]
    options = make_dataclass(
        "Options",
        [
            ("tier", Annotated[str, tyro.conf.arg(help="smoke, quick or paper: other numbers, same code.")], tier),
            ("out", Annotated[Path, tyro.conf.arg(help="The run folder.")], Path("runs") / f"{name}-{tier}"),
            ("config", Annotated[type(default), tyro.conf.arg(name="")], field(default=default)),
        ],
    )
    chosen = _parse(options, rest, f"reproduce {name}", f"{entry.summary} ({entry.figures} of the paper).")
    chosen.config.check()

    from intermode.progress import Bars
    from intermode.report import interval, write_report
    from intermode.run import Run

    run = Run(chosen.out, name, tier, chosen.config, Bars())
    metrics = run.finish(module.run(run, chosen.config), chosen.config.device, chosen.config.threads)
    report = write_report(chosen.out)

    from rich.table import Table

    table = Table("claim", "paper", "measured (95 % interval)", "holds")
    for claim in metrics["claims"]:
        holds = {True: "[green]yes", False: "[red]no", None: "[yellow]not decided"}[claim["holds"]]
        table.add_row(claim["statement"], claim["paper"], interval(claim).replace("[", r"\["), holds)
    console = _console()
    console.print(table)
    console.print(f"report: {report}", highlight=False, soft_wrap=True)


@dataclass
class TrainOptions:
    """Train a residual MLP on samples of a few numbers each."""

    data: tyro.conf.Positional[Path]
    """Training samples: .npy or .csv (n, d), or .safetensors with a tensor ``samples``."""
    out: Path
    """Folder of the model; also holds the checkpoint while training."""
    steps: int = 4000
    """Optimiser steps."""
    batch: int = 1000
    """Samples in a step."""
    learning_rate: float = 1e-3
    """Of Adam, falling to zero along a cosine."""
    ema: float = 0.0
    """Decay of an average of the weights, 0 for none."""
    timesteps: int = 1000
    """T of the noise schedule."""
    beta_start: float = 0.001
    """First beta of the linear schedule."""
    beta_end: float = 0.2
    """Last beta."""
    width: int = 128
    """Of the hidden layers."""
    seed: int = 0
    """Of weights, batches and noise."""
    device: str = "cpu"
    """cpu or cuda."""
    threads: int = 1
    """torch's on a CPU; small batches are faster with one."""
    track: str | None = None
    """A tracker: tensorboard, wandb, ..."""


def _train(args: Sequence[str]) -> None:
    options = _parse(TrainOptions, args, "train", "Train a residual MLP on samples of a few numbers each.")
    from intermode.data import load_samples
    from intermode.experiments.model import fit
    from intermode.progress import Bars
    from intermode.schedule import linear
    from intermode.train import TrainConfig

    _use_threads(options.threads)
    data = load_samples(options.data)
    if data.ndim != 2:
        raise InputError(f"data: samples of shape {tuple(data.shape[1:])}; train takes flat samples (n, d)")
    config = TrainConfig(
        steps=options.steps,
        batch=options.batch,
        learning_rate=options.learning_rate,
        ema=options.ema,
        seed=options.seed,
        track=options.track,
    )
    schedule = linear(options.timesteps, options.beta_start, options.beta_end)
    if options.out.exists() and not options.out.is_dir():
        raise InputError(f"out: {options.out} is a file; choose a folder")
    trained = fit(
        options.out,
        {"kind": "mlp", "dimensions": data.shape[1], "width": options.width},
        schedule,
        data,
        config,
        target=str(options.data),
        device=options.device,
        threads=options.threads,
        progress=Bars(),
    )
    print(f"model: {options.out} (loss {trained.losses[-1]:.4g}, {trained.seconds:.0f} s)")


@dataclass
class SampleOptions:
    """Draw samples from a model."""

    model: tyro.conf.Positional[Path]
    """Model folder."""
    n: int
    """Samples to draw."""
    out: Path
    """Folder for samples.safetensors (samples, score.hal, diverged)."""
    sampler: Literal["ancestral", "ddim"] = "ancestral"
    """Reverse chain."""
    steps: int | None = None
    """Respaced steps; all timesteps unless given."""
    variance: Literal["large", "small"] = "large"
    """Of ancestral steps."""
    eta: float = 0.0
    """Noise of DDIM, 0..1."""
    window: tuple[int, int] = (0, 15)
    """Timesteps of Hal, both ends included."""
    seed: int = 0
    """Noise belongs to (seed, sample index)."""
    chunk: int = 16384
    """Samples computed together."""
    device: str = "cpu"
    """cpu or cuda."""
    threads: int | None = None
    """torch's on a CPU."""


def _sample(args: Sequence[str]) -> None:
    options = _parse(SampleOptions, args, "sample", "Draw samples from a model, with Hal for each.")
    from intermode.bundle import load_model
    from intermode.detect.hal import Hal
    from intermode.generate import Plan, generate
    from intermode.progress import Bars
    from intermode.sampler import DDIM, Ancestral, Sampler

    _use_threads(options.threads)
    denoiser = load_model(options.model)
    denoiser.network.to(options.device)
    sampler: Sampler = (
        Ancestral(options.variance, options.steps)
        if options.sampler == "ancestral"
        else DDIM(options.eta, options.steps)
    )
    shape = denoiser.shape
    plan = Plan(options.n, shape, options.seed, options.chunk, device=options.device)
    settings = {
        "model": str(options.model),
        "sampler": repr(sampler),
        "window": list(options.window),
        "device": options.device,
    }
    generated = generate(
        denoiser, sampler, plan, [Hal(*options.window)], folder=options.out, settings=settings, progress=Bars()
    )
    print(f"samples: {options.out / 'samples.safetensors'} ({options.n:,}, {int(generated.diverged.sum())} diverged)")


@dataclass
class ScoreOptions:
    """Score finished samples."""

    model: tyro.conf.Positional[Path]
    """Model folder."""
    data: tyro.conf.Positional[Path]
    """Samples: .npy, .csv or .safetensors."""
    out: Path
    """File for the scores: .npy or .csv, one number per sample, larger = more suspect."""
    window: tuple[int, int] = (0, 15)
    """Timesteps to which samples are noised again, both ends included."""
    count: int = 10
    """How many of them, one network evaluation each."""
    seed: int = 0
    """Noise belongs to (seed, sample index)."""
    threads: int | None = None
    """torch's on a CPU."""


def _score(args: Sequence[str]) -> None:
    options = _parse(ScoreOptions, args, "score", "Score finished samples by Hal over re-noisings of each.")
    import numpy as np

    from intermode.bundle import load_model
    from intermode.data import load_samples
    from intermode.detect.hal import HalRenoise
    from intermode.files import replacing
    from intermode.generate import score
    from intermode.progress import Bars

    if options.out.suffix not in (".npy", ".csv"):
        raise InputError(f"out: {options.out} must end in .npy or .csv")
    _use_threads(options.threads)
    low, high = options.window
    detector = HalRenoise(low, high, options.count)
    denoiser = load_model(options.model)
    data = load_samples(options.data, denoiser.shape, finite=False)
    scores = score(detector, denoiser, data, seed=options.seed, progress=Bars())
    with replacing(options.out) as temporary:
        np.save(temporary, scores) if options.out.suffix == ".npy" else np.savetxt(temporary, scores, fmt="%.17g")
    print(f"scores: {options.out} ({len(scores):,})")


@dataclass
class FilterOptions:
    """Keep the samples under a threshold. Give one of: kept; reference and alpha; labels and removed."""

    data: tyro.conf.Positional[Path]
    """Samples: .npy, .csv or .safetensors."""
    out: Path
    """Folder for kept and rejected samples and threshold.json."""
    scores: Path | None = None
    """Scores of the samples (.npy or .csv); unless given, score.hal of a .safetensors file."""
    kept: float | None = None
    """Keep this share of the samples, those with the lowest scores."""
    reference: Path | None = None
    """Scores of samples known to be good: with alpha, a guarantee on what is kept."""
    alpha: float = 0.05
    """A good sample is lost with at most this probability (with reference)."""
    labels: Path | None = None
    """Whether each sample is hallucinated, 0 or 1 (.npy or .csv)."""
    removed: float = 0.95
    """Remove this share of the hallucinations (with labels)."""


def _filter(args: Sequence[str]) -> None:
    options = _parse(FilterOptions, args, "filter", "Keep the samples under a threshold; the input is never changed.")
    import numpy as np

    from intermode.data import load_samples
    from intermode.files import load_tensors, replacing, save_tensors, write_json

    ways = [name for name in ("kept", "reference", "labels") if getattr(options, name) is not None]
    if len(ways) != 1:
        raise InputError(f"threshold: give exactly one of --kept, --reference and --labels (got {len(ways)})")
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise InputError(f"out: {options.out} is not an empty folder; choose another")
    samples = load_samples(options.data, finite=False)
    if options.scores:
        scores = _numbers(options.scores)
    elif options.data.suffix == ".safetensors" and "score.hal" in (tensors := load_tensors(options.data)[0]):
        scores = tensors["score.hal"].numpy()
    else:
        raise InputError(f"scores: {options.data} holds none; give --scores FILE")
    if len(scores) != len(samples):
        raise InputError(f"scores: {len(scores)} for {len(samples)} samples; need one for each")
    threshold = _threshold(options, scores)
    keep = threshold.keep(scores)
    for name, mask in (("kept", keep), ("rejected", ~keep)):
        rows = np.flatnonzero(mask)
        if options.data.suffix == ".safetensors":
            save_tensors(options.out / f"{name}.safetensors", {"samples": samples[rows]})
        else:
            with replacing(options.out / f"{name}{options.data.suffix}") as temporary:
                if options.data.suffix == ".npy":
                    np.save(temporary, samples[rows].numpy())
                else:
                    np.savetxt(temporary, samples[rows].numpy(), delimiter=",", fmt="%.9g")
        with replacing(options.out / f"{name}_rows.csv") as temporary:
            np.savetxt(temporary, rows, fmt="%d")
    record = {"value": threshold.value, "rule": threshold.rule, "samples": len(keep), "kept": int(keep.sum())}
    write_json(options.out / "threshold.json", record)
    count = int(keep.sum())
    print(f"kept: {count:,} of {len(keep):,} in {options.out} ({threshold.rule}, score up to {threshold.value:.4g})")


def _numbers(path: Path) -> np.ndarray:
    from intermode.data import load_samples

    values = load_samples(path, (1,), finite=False)
    return values[:, 0].double().numpy()


def _threshold(options: FilterOptions, scores: np.ndarray) -> Threshold:
    from intermode import threshold

    if options.kept is not None:
        return threshold.quantile(scores, options.kept)
    if options.reference:
        return threshold.conformal(_numbers(options.reference), options.alpha)
    assert options.labels is not None
    labels = _numbers(options.labels)
    if len(labels) != len(scores) or not set(labels.tolist()) <= {0.0, 1.0}:
        raise InputError(f"labels: {options.labels} must hold {len(scores)} numbers, each 0 or 1")
    return threshold.labelled(scores, labels.astype(bool), removed=options.removed)


@dataclass
class ReportOptions:
    """Write a run's report again."""

    run: tyro.conf.Positional[Path]
    """Run folder."""


def _report(args: Sequence[str]) -> None:
    options = _parse(ReportOptions, args, "report", "Write a run's report again from its metrics and figures.")
    from intermode.report import write_report

    print(f"report: {write_report(options.run)}")


def _use_threads(threads: int | None) -> None:
    if threads is None:
        return
    if threads < 1:
        raise InputError(f"threads: {threads} must be at least 1")
    import torch

    torch.set_num_threads(threads)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "list": _list,
    "reproduce": _reproduce,
    "train": _train,
    "sample": _sample,
    "score": _score,
    "filter": _filter,
    "report": _report,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 for input that cannot be used, 130 after an interrupt."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print(OVERVIEW)
        return 0
    if args[0] == "--version":
        from importlib.metadata import version

        print(f"intermode {version('intermode')}")
        return 0
    try:
        if args[0] not in COMMANDS:
            raise InputError(f"command: unknown {args[0]!r}{nearest(args[0], COMMANDS)}")
        COMMANDS[args[0]](args[1:])
    except InputError as error:
        return _fail(str(error), 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        more = "; free some space and run the same command again" if error.errno == errno.ENOSPC else ""
        return _fail(f"{where}{error.strerror or error}{more}", 2)
    except FloatingPointError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        again = shlex.join(["intermode", *args])
        print(f"interrupted; finished parts are kept, go on with: {again}", file=sys.stderr)
        return 130
    return 0


def _fail(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
