"""The command line. Only this module prints; heavy imports happen in the command that needs them."""

from __future__ import annotations

import errno
import hashlib
import io
import math
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import tyro

from intermode.errors import InputError
from intermode.experiments import EXPERIMENTS, TIERS, find, nearest

if TYPE_CHECKING:
    from rich.console import Console

    from intermode.denoisers import NetworkDenoiser
    from intermode.detect import Detector, SampleDetector
    from intermode.progress import Progress
    from intermode.thresholds import Threshold

__all__ = ["main"]

Tier = Literal["smoke", "quick", "paper"]

OVERVIEW = """\
usage: intermode COMMAND ...

Find, explain and remove the hallucinations of diffusion models.

commands:
  list        the paper's experiments, their figures, tiers and expected times
  data        fetch MNIST or Fashion-MNIST and verify its files
  reproduce   run an experiment: claims with intervals, figures, a report
  train       train a model on an array of samples
  sample      draw samples from a model, with scores for each
  score       score finished samples, wherever they come from
  filter      keep the samples under a threshold
  report      write a run's report again
  bench       compare all detectors on the same samples, where the truth is known

intermode COMMAND --help explains a command."""

FITTING = 5000
"""Training samples that a detector is fitted on, the first ones."""


def _parse(options: type, args: Sequence[str], name: str, description: str) -> Any:
    printed = io.StringIO()
    try:
        with redirect_stderr(printed), _lists():
            chosen: Any = tyro.cli(options, args=args, prog=f"intermode {name}", description=description)
    except SystemExit as end:
        if end.code:
            raise InputError(f"{_one_line(printed.getvalue())}; see intermode {name} --help") from None
        raise
    _check_finite(asdict(chosen))
    return chosen


def _inner(kind: Any) -> list[Any]:
    """The types within a tuple type; something that is no tuple type for an empty one."""
    return [inner for inner in get_args(kind) if inner is not ...] or [None]


def _lists() -> tyro.constructors.ConstructorRegistry:
    """Teaches tyro lists of lists of numbers, each inner list one word: ``--mode-sets 1,2 1,2,4,5``."""
    registry = tyro.constructors.ConstructorRegistry()

    def read(words: list[str]) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(float(number) for number in word.split(",")) for word in words)

    @registry.primitive_rule
    def _(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
        # tyro may have narrowed the type by the default: tuple[tuple[float, float], tuple[float, float, float]]
        if get_origin(info.type) is not tuple or any(get_origin(inner) is not tuple for inner in _inner(info.type)):
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs="*",
            metavar="A,B,...",
            instance_from_str=read,
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=lambda value: [",".join(f"{number:g}" for number in inner) for inner in value],
        )

    return registry


def _one_line(box: str) -> str:
    """What tyro says in a box, in one line: what is wrong, and what is allowed."""
    rows = [row.strip("│").rstrip() for row in box.splitlines() if not row.startswith(("╭", "╰"))]
    sections: list[list[str]] = [[]]
    for row in rows:
        if row and not row.strip(" ─-"):
            sections.append([])
        elif row:
            sections[-1].append(row)
    if "╭" not in box:  # without UTF-8 the title is a section of its own
        del sections[0]
    first, *others = sections
    if first[0].lstrip().startswith("Missing from"):
        # the names stand before their explanations, which are indented more
        indent = len(first[0]) - len(first[0].lstrip()) + 4
        return "missing: " + ", ".join(row.strip() for row in first[1:] if re.match(rf" {{{indent}}}\S", row))
    message = " ".join(row.strip() for row in first).rstrip(".")
    message = re.sub(r"^Error parsing (\S+?):", r"\1:", message)
    message = re.sub(r"invalid literal for int\(\) with base 10: (.*)", r"\1 is no whole number", message)
    hints = [row.strip() for row in others[0]] if others else []
    if hints[:1] == ["Perhaps you meant:"]:
        message += f"; did you mean {hints[1].split()[0]}?"
    elif hints[:1] == ["Argument helptext:"]:
        message += f"; takes {hints[1].split(maxsplit=1)[-1]}"
    return message[0].lower() + message[1:]


def _check_finite(options: dict[str, Any]) -> None:
    def numbers(value: Any) -> Iterator[float]:
        if isinstance(value, float):
            yield value
        elif isinstance(value, list | tuple):
            for inner in value:
                yield from numbers(inner)

    for name, value in options.items():
        if isinstance(value, dict):
            _check_finite(value)
        elif bad := [v for v in numbers(value) if not math.isfinite(v)]:
            raise InputError(f"{name}: {bad[0]} must be a finite number")


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
    """The value of a flag, the last one given, before the real parser knows which options there are."""
    for i, word in reversed(list(enumerate(args))):
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
    if name.startswith("-"):
        raise InputError(f"experiment: must come before {name} (choose from {', '.join(EXPERIMENTS)})")
    entry = find(name)
    tier = _flag(rest, "--tier", "quick")
    if tier not in TIERS:
        raise InputError(f"tier: unknown {tier!r}{nearest(tier, TIERS)}")
    module = entry.load()
    default = module.TIERS[tier]
    options = make_dataclass(
        "Options",
        [
            ("tier", Annotated[Tier, tyro.conf.arg(help="Other numbers, same code.")], tier),
            ("out", Annotated[Path, tyro.conf.arg(help="The run folder.")], Path("runs") / f"{name}-{tier}"),
            ("config", Annotated[type(default), tyro.conf.arg(name="")], field(default=default)),
        ],
    )
    chosen = _parse(options, rest, f"reproduce {name}", f"{entry.summary} ({entry.figures} of the paper).")
    chosen.config.check()
    _check_device(chosen.config.device)

    from intermode.progress import Bars
    from intermode.reports import interval, write_report
    from intermode.run import Run

    run = Run(chosen.out, name, tier, chosen.config, Bars())
    try:
        results = module.run(run, chosen.config)
    except KeyboardInterrupt:
        run.keep_time()
        raise
    metrics = run.finish(results, chosen.config.device, chosen.config.threads)
    report = write_report(chosen.out)

    from rich.markup import escape
    from rich.table import Table

    table = Table("claim", "paper", "measured (95 % interval)", "holds")
    for claim in metrics["claims"]:
        holds = {True: "[green]yes", False: "[red]no", None: "[yellow]not decided"}[claim["holds"]]
        table.add_row(escape(claim["statement"]), escape(claim["paper"]), escape(interval(claim)), holds)
    console = _console()
    console.print(table)
    console.print(f"report: {report}", highlight=False, soft_wrap=True)


@dataclass
class DataOptions:
    """Fetch a dataset and verify its files."""

    name: tyro.conf.Positional[Annotated[Literal["mnist", "fashion-mnist"], tyro.conf.arg(metavar="NAME")]]
    """mnist or fashion-mnist."""
    data: Path | None = None
    """Folder with the four idx files, plain or .gz; downloaded unless given."""
    out: Path | None = None
    """Folder for them; intermode/NAME in the user's cache unless given."""


def _data(args: Sequence[str]) -> None:
    options = _parse(DataOptions, args, "data", "Fetch MNIST or Fashion-MNIST and verify its files.")
    from intermode.progress import Bars
    from intermode.targets.digits import load
    from intermode.targets.fetch import DATASETS, cache_folder, fetch

    folder = cache_folder(options.name) if options.out is None else options.out
    fetch(DATASETS[options.name], folder, options.data, Bars())
    print(f"data: {folder} ({len(load(folder, 'train')):,} + {len(load(folder, 'test')):,} images, checksums verified)")


@dataclass
class TrainOptions:
    """Train a residual MLP on samples of a few numbers each."""

    data: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="DATA")]]
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
    from intermode.networks import build
    from intermode.progress import Bars
    from intermode.schedules import linear
    from intermode.training import TrainConfig

    _use_threads(options.threads)
    _check_device(options.device)
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
    network = {"kind": "mlp", "dimensions": data.shape[1], "width": options.width}
    build(network)  # refuses what cannot be built before anything is written
    settings = {k: v for k, v in asdict(config).items() if k not in ("track", "checkpoint_every")}
    digest = hashlib.sha256(data.numpy().tobytes()).hexdigest()
    _claim(options.out, {**settings, **network, **schedule.config, "data": [*data.shape, digest[:16]]})
    trained = fit(
        options.out,
        network,
        schedule,
        data,
        config,
        target=str(options.data),
        device=options.device,
        threads=options.threads,
        progress=Bars(),
    )
    print(f"model: {options.out} (loss {trained.losses[-1]:.4g}, {trained.seconds:.0f} s)")


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Take a folder for a training; another training's folder, or one with other things in it, is refused."""
    from intermode.files import read_json, write_json

    record = folder / "training.json"
    if record.exists():
        found = read_json(record)
        differing = [k for k in settings if found.get(k) != settings[k]]
        if differing:
            listed = ", ".join(f"{k} is {found.get(k)} there and {settings[k]} here" for k in differing)
            raise InputError(f"out: {folder} holds another training ({listed}); choose another folder")
        return
    _check_new(folder)
    write_json(record, settings)


def _check_ours(folder: Path, record: str) -> None:
    """Refuse a folder that is neither empty nor begun; other processes may just be beginning it."""
    begun = not folder.exists() or (folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir()))
    if not begun and not (folder / record).exists():
        _check_new(folder)


def _check_new(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"out: {folder} is not an empty folder; choose another")


@dataclass
class SampleOptions:
    """Draw samples from a model."""

    model: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="MODEL")]]
    """Model folder."""
    n: int
    """Samples to draw."""
    out: Path
    """Folder for samples.safetensors (samples, a score.NAME for each detector, diverged)."""
    sampler: Literal["ancestral", "ddim"] = "ancestral"
    """Reverse chain."""
    steps: int | None = None
    """Respaced steps; all timesteps unless given."""
    variance: Literal["large", "small"] = "large"
    """Of ancestral steps."""
    eta: float = 0.0
    """Noise of DDIM, 0..1."""
    detectors: tuple[str, ...] | None = None
    """Scores to compute, of docs/detectors.md; unless given lid, the first of the leaderboard, and hal, the paper's."""
    window: tuple[int, int] | None = None
    """Timesteps of hal and hal-renoise, both ends included; unless given 0..15, and other ones for images."""
    fit: Path | None = None
    """Training data, for the detectors that must see some: knn, realism, diffpath, ..."""
    keep_below: str | None = None
    """Draw until n samples have a score of at most this: a number, or the threshold.json of intermode filter."""
    by: str | None = None
    """The score that --keep-below looks at; unless given, the one that threshold.json names, or the first."""
    draws: int | None = None
    """Most samples to draw for --keep-below: 100 n unless given."""
    seed: int = 0
    """Noise belongs to (seed, sample index)."""
    chunk: int | None = None
    """Samples computed together: 16384, or n if that is less. The unit that processes share."""
    device: str = "cpu"
    """cpu or cuda; under accelerate launch, each process takes a GPU of its own."""
    threads: int | None = None
    """torch's on a CPU."""
    ranks: tuple[int, int] | None = None
    """RANK COUNT of this process among those started on the same folder without accelerate launch."""


def _sample(args: Sequence[str]) -> None:
    options = _parse(SampleOptions, args, "sample", "Draw samples from a model, with scores for each.")
    from intermode.detect.registry import DEFAULT
    from intermode.models import load_model, weights_digest
    from intermode.progress import Bars, Silent
    from intermode.ranks import Ranks, launched, local_device
    from intermode.resample import generate_kept
    from intermode.samplers import DDIM, Ancestral, Sampler
    from intermode.sampling import LOW_DIMENSIONAL_CHUNK, Plan, generate

    _use_threads(options.threads)
    _check_device(options.device)
    device = local_device(options.device)
    ranks = launched() if options.ranks is None else Ranks(*options.ranks)
    first = launched().rank == 0  # launched processes share a terminal
    keep, of = (None, None) if options.keep_below is None else _given_threshold(options.keep_below)
    if of and options.by not in (None, of):
        raise InputError(f"by: the threshold of {options.keep_below} is one of {of}, not of {options.by}")
    for name in ("draws", "by"):
        if keep is None and getattr(options, name) is not None:
            raise InputError(f"{name}: is of use only with --keep-below")
    denoiser = load_model(options.model)
    denoiser.network.to(device)
    sampler: Sampler = (
        Ancestral(options.variance, options.steps)
        if options.sampler == "ancestral"
        else DDIM(options.eta, options.steps)
    )
    chunk = min(LOW_DIMENSIONAL_CHUNK, max(options.n, 1)) if options.chunk is None else options.chunk
    plan = Plan(options.n, denoiser.shape, options.seed, chunk, device=device)
    _check_ours(options.out, "sampling.json")
    progress = Bars() if first else Silent()
    names = options.detectors or (DEFAULT, "hal")
    detectors = _detectors(names, options, denoiser, progress)
    settings = {
        "model": str(options.model),
        "weights": weights_digest(options.model),
        "sampler": repr(sampler),
        **_fitted_on(options, detectors),
    }
    if keep is None:
        generated = generate(
            denoiser, sampler, plan, detectors, folder=options.out, settings=settings, progress=progress, ranks=ranks
        )
        passed = ""
    else:
        plan = replace(plan, n=100 * options.n if options.draws is None else options.draws)
        generated = kept = generate_kept(
            denoiser,
            sampler,
            plan,
            detectors,
            keep,
            options.n,
            by=options.by or of or names[0],
            folder=options.out,
            settings=settings,
            progress=progress,
            ranks=ranks,
        )
        passed = f" of {kept.drawn:,} drawn: {kept.acceptance}"
    if first:
        diverged = int(generated.diverged.sum())
        print(f"samples: {options.out / 'samples.safetensors'} ({options.n:,}{passed}, {diverged} diverged)")


def _given_threshold(word: str) -> tuple[Threshold, str | None]:
    """A threshold from a number, or from the file that the filter writes; then with the name of its score."""
    from intermode.files import read_json
    from intermode.thresholds import Threshold

    value: Any
    of = None
    if word.endswith(".json"):
        found = read_json(Path(word))
        value, rule = (found.get("value"), str(found.get("rule"))) if isinstance(found, dict) else (None, "")
        of = found.get("score") if isinstance(found, dict) else None
    else:
        try:
            value, rule = float(word), "given"
        except ValueError:
            value, rule = None, ""
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"keep-below: {word} is neither a finite number nor a threshold.json of intermode filter")
    # the filter writes "score" for a score without a name
    return Threshold(float(value), rule), of if isinstance(of, str) and of != "score" else None


@dataclass
class ScoreOptions:
    """Score finished samples."""

    model: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="MODEL")]]
    """Model folder."""
    data: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="DATA")]]
    """A folder of images, .npy, .csv, .safetensors, .parquet, or a folder written by datasets."""
    out: Path
    """File for the scores, larger = more suspect: .parquet or .csv (with ids), or .npy."""
    detectors: tuple[str, ...] | None = None
    """Scores to compute: those of docs/detectors.md that look at finished samples; unless given lid, the
    first of the leaderboard. The paper's is hal-renoise."""
    window: tuple[int, int] | None = None
    """Of hal-renoise: timesteps to which samples are noised again, both ends included; unless given 0..15, and of
    images a tenth to three twentieths of the schedule's."""
    count: int | None = None
    """Of hal-renoise: how many of them, one network evaluation each; 10 unless given."""
    fit: Path | None = None
    """Training data, for the detectors that must see some: knn, realism, diffpath, ..."""
    column: str | None = None
    """Of a table, that holds the samples; found out unless given."""
    strict: bool = False
    """Stop at the first sample that cannot be read, rather than skip and list it."""
    seed: int = 0
    """Noise belongs to (seed, sample index)."""
    chunk: int | None = None
    """Samples computed together: 16384, or fewer if they are large."""
    device: str = "cpu"
    """cpu or cuda."""
    threads: int | None = None
    """torch's on a CPU."""


def _detectors(
    names: Sequence[str], options: SampleOptions | ScoreOptions, denoiser: NetworkDenoiser, progress: Progress
) -> list[Detector]:
    """The detectors of these names, fitted if need be."""
    from intermode.data import open_source
    from intermode.detect.hal import Hal, HalRenoise
    from intermode.detect.registry import Setting, make

    setting = Setting(denoiser.shape, timesteps=len(denoiser.schedule))
    found: list[Any] = [make(name, setting) for name in names]
    if not found or len(set(names)) < len(found):
        raise InputError(f"detectors: {' '.join(names) or 'none'}; each at most once, and at least one")
    count = getattr(options, "count", None)
    if options.window is not None and not {"hal", "hal-renoise"} & set(names):
        raise InputError(f"window: is of hal and hal-renoise alone, not of {' '.join(names)}")
    if count is not None and "hal-renoise" not in names:
        raise InputError(f"count: is of hal-renoise alone, not of {' '.join(names)}")
    for place, name in enumerate(names):
        if name == "hal" and options.window:
            found[place] = Hal(*options.window)
        elif name == "hal-renoise" and (options.window or count is not None):
            low, high = options.window or (found[place].window.low, found[place].window.high)
            found[place] = HalRenoise(low, high, min(10, high - low + 1) if count is None else count)
    if fitted := [d for d in found if hasattr(d, "fit")]:
        if options.fit is None:
            raise InputError(f"fit: {fitted[0].name} must see training data first; give --fit DATA")
        column = getattr(options, "column", None)
        source = open_source(options.fit, denoiser.shape, column=column, progress=progress)
        block = next(source.blocks(FITTING))
        read = [row for row in range(len(block.values)) if block.first + row not in block.unread]
        data = block.values[read].to(options.device)
        for detector in fitted:
            detector.fit(denoiser, data, seed=options.seed)
    return found


def _fitted_on(options: SampleOptions | ScoreOptions, detectors: Sequence[Detector]) -> dict[str, str]:
    """For the record: the training data, where a detector has seen some."""
    return {"fit": str(options.fit)} if any(hasattr(detector, "fit") for detector in detectors) else {}


def _score(args: Sequence[str]) -> None:
    options = _parse(ScoreOptions, args, "score", "Score finished samples, wherever they come from.")
    from intermode.data import open_source
    from intermode.detect import describe, watches
    from intermode.detect.registry import DEFAULT
    from intermode.filtering import check_outside
    from intermode.models import load_model, weights_digest
    from intermode.progress import Bars
    from intermode.scoring import model_identity, score_source

    if options.out.suffix not in (".parquet", ".npy", ".csv") or options.out.is_dir():
        raise InputError(f"out: {options.out} must be a file that ends in .parquet, .csv or .npy")
    check_outside(options.out, options.data)
    if options.seed < 0:
        raise InputError(f"seed: {options.seed} must be at least 0")
    _use_threads(options.threads)
    _check_device(options.device)
    denoiser = load_model(options.model)
    denoiser.network.to(options.device)
    progress = Bars()
    detectors: list[SampleDetector] = []
    for detector in _detectors(options.detectors or (DEFAULT,), options, denoiser, progress):
        if watches(detector):
            raise InputError(
                f"detectors: {detector.name} watches samples while they are made; choose one for finished samples"
            )
        detectors.append(detector)
    settings = {d.name: describe(d) for d in detectors} | _fitted_on(options, detectors)
    source = open_source(options.data, denoiser.shape, column=options.column, progress=progress)
    scored = score_source(
        detectors,
        denoiser,
        source,
        options.out,
        model=model_identity(denoiser, weights_digest(options.model)),
        settings=settings,
        seed=options.seed,
        chunk=options.chunk,
        device=options.device,
        strict=options.strict,
        progress=progress,
    )
    skipped = f", {scored.skipped:,} skipped, listed in {scored.listed}" if scored.skipped else ""
    print(f"scores: {options.out} ({scored.samples - scored.skipped:,}{skipped})")


@dataclass
class FilterOptions:
    """Keep the samples under a threshold. Give one of: kept; reference and alpha; labels and removed."""

    data: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="DATA")]]
    """A folder of images, .npy, .csv, .safetensors, .parquet, or a folder written by datasets."""
    out: Path
    """Folder for kept and rejected samples, their scores, threshold.json and, of images, sheet.png."""
    scores: Path | None = None
    """Scores of the samples (.parquet, .csv, .npy); unless given, those in a .safetensors file."""
    by: str | None = None
    """The score, where a file holds several; lid unless given."""
    kept: float | None = None
    """Keep this share of the samples, those with the lowest scores."""
    reference: Path | None = None
    """Scores of samples known to be good: with alpha, a guarantee on what is kept."""
    alpha: float = 0.01
    """A good sample is lost with at most this probability (with reference)."""
    labels: Path | None = None
    """Whether samples are hallucinated, 0 or 1: for each (.npy, .csv), or by id (.csv, .parquet with a column id)."""
    removed: float = 0.95
    """Remove this share of the hallucinations (with labels)."""
    within: str | None = None
    """Labels, such as classes, that get a threshold each, so that none is starved: a file (.npy, .csv or .parquet, by
    row or by id), or a column of the data (of a folder of images, label is the folder of each)."""
    column: str | None = None
    """Of a table, that holds the images for the sheet; found out unless given."""


def _filter(args: Sequence[str]) -> None:
    options = _parse(FilterOptions, args, "filter", "Keep the samples under a threshold; the input is never changed.")
    from intermode.filtering import filter

    filtered = filter(**vars(options))
    print(filtered)
    print(f"folder: {filtered.out}")


@dataclass
class ReportOptions:
    """Write a run's report again."""

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Run folder."""


def _report(args: Sequence[str]) -> None:
    options = _parse(ReportOptions, args, "report", "Write a run's report again from its metrics and figures.")
    from intermode.reports import write_report

    print(f"report: {write_report(options.run)}")


def _check_device(device: str) -> None:
    import torch

    count = torch.cuda.device_count()
    known = ["cpu", *(["cuda"] if count else []), *(f"cuda:{i}" for i in range(count))]
    if device not in known:
        raise InputError(f"device: {device} is not available; choose from {', '.join(known)}")


def _use_threads(threads: int | None) -> None:
    if threads is None:
        return
    if threads < 1:
        raise InputError(f"threads: {threads} must be at least 1")
    import torch

    torch.set_num_threads(threads)


def _bench(args: Sequence[str]) -> None:
    """The benchmark is an experiment like the others, under a shorter name."""
    _reproduce(["bench", *args])


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "list": _list,
    "data": _data,
    "reproduce": _reproduce,
    "train": _train,
    "sample": _sample,
    "score": _score,
    "filter": _filter,
    "report": _report,
    "bench": _bench,
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
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        more = "; free some space and run the same command again" if full else ""
        return _fail(f"{where}{error.strerror or error}{more}", 2)
    except (MemoryError, RuntimeError) as error:
        # torch says it in words on a CPU, by a class of its own on a GPU
        if not isinstance(error, MemoryError) and "memory" not in f"{type(error).__name__} {error}".lower():
            raise
        return _fail("out of memory; ask for fewer samples or timesteps, or a smaller batch, chunk or width", 2)
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
