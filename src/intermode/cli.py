"""The command line. Only this module prints; heavy imports happen in the command that needs them.

Each command is a function: its signature and docstring are its options and help (:mod:`intermode.arguments`), and what
it does is that of the Python function of the same name.
"""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from intermode import options
from intermode.arguments import Group, flag, parse
from intermode.errors import InputError, told
from intermode.verbs import unknown

__all__ = ["main"]


def train(
    data: options.Data,
    out: Path,
    *,
    labels: Path | None = None,
    width: int = 128,
    steps: int = 4000,
    batch: int | None = None,
    learning_rate: float = 1e-3,
    ema: float | None = None,
    targets: Literal["noise", "posterior"] = "noise",
    reference: int = 1000,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    track: str | None = None,
    noise: Group[options.Noise] = options.NOISE,
) -> None:
    """Train a model on samples: a residual MLP on a few numbers each, a small U-Net on images.

    Args:
        data: training samples: .npy, .csv, .safetensors, .parquet, a folder of images, or one written by datasets.
        out: folder of the model; also holds the checkpoint while training.
        labels: classes 0..K - 1 of images (.npy or .csv), to condition on.
        width: of the MLP's hidden layers.
        steps: optimiser steps.
        batch: samples in a step; unless given 1000, of images 32.
        learning_rate: of Adam, falling to zero along a cosine.
        ema: decay of an average of the weights, 0 for none; unless given 0, of images 0.999.
        targets: what it learns: the noise that was drawn, or its posterior mean over a reference batch.
        reference: points of that batch.
        seed: of weights, batches and noise.
        device: cpu or cuda.
        threads: torch's on a CPU; small batches are faster with one.
        track: a tracker: tensorboard, wandb, ...
    """
    from intermode import training
    from intermode.data import load_data
    from intermode.scores import read_classes

    options.use(device, threads)
    samples = load_data(data)
    flat = samples.ndim == 2
    trained = training.train(
        samples,
        network={"kind": "mlp", "dimensions": samples.shape[1], "width": width} if flat else None,
        schedule=noise.made(image=not flat),
        labels=None if labels is None else read_classes(labels, "labels"),
        **_of(
            locals(), "steps", "batch", "learning_rate", "ema", "targets", "reference", "seed", "device", "track", "out"
        ),
        progress=True,
    )
    print(f"model: {out} (loss {trained.losses[-1]:.4g}, {trained.seconds:.0f} s)")


def sample(
    model: options.Model,
    n: options.Count,
    out: Path,
    *,
    keep_below: options.Limit = None,
    by: str | None = None,
    draws: int | None = None,
    repair: bool = False,
    stop: options.Stop = None,
    scoring: Group[options.Scoring] = options.SCORING,
    chain: Group[options.Chain] = options.CHAIN,
    machine: Group[options.Machine] = options.MACHINE,
) -> None:
    """Draw samples from a model, with scores for each.

    Args:
        model: a shipped model's name, or a folder: of a model, or of a pipeline of diffusers.
        n: samples to draw.
        out: folder for samples.safetensors (samples, a score.NAME for each detector, diverged).
        keep_below: draw until n samples have a score of at most this: a number, or the threshold.json of intermode
            filter.
        by: the score that --keep-below looks at; unless given the one that threshold.json names, or the first.
        draws: most samples to draw for --keep-below; unless given 100 n.
        repair: restart the samples that look worst until they pass, as intermode repair does unless told otherwise.
        stop: drop a tenth of the chains at this timestep, those whose prediction looks worst in the critical windows
            that are over there, and begin others in their place; auto is where the last of these is just over.
    """
    from intermode.thresholds import Threshold

    keep = None if keep_below is None else Threshold.of(keep_below, "keep-below")
    import numpy as np

    from intermode import sampling
    from intermode.early_stop import EarlyStop
    from intermode.models import load

    machine.use()
    denoiser = load(model).to(machine.device)
    condition, classes = scoring.condition, denoiser.classes
    if condition is None and classes:
        most = n if keep is None else 100 * n if draws is None else draws
        condition = {"class_labels": np.arange(most) % classes}
        print(f"classes: 0..{classes - 1} in turn, as many of each; --labels chooses others")
    drawn = sampling.sample(
        denoiser,
        n,
        sampler=chain.made(),
        detectors=scoring.made(denoiser, "sample", chain.made()),
        condition=condition,
        fit=scoring.data(denoiser),
        seed=machine.seed,
        chunk=machine.chunk,
        stop=None if stop is None else EarlyStop(t=None if stop == "auto" else options.level_of(stop)),
        **_of(locals(), "keep", "by", "draws", "repair", "out"),
        workers=machine.workers,
        on=machine.on,
        progress=True,
    )
    print(f"samples: {out / 'samples.safetensors'}\n{drawn}")


def score(
    model: options.Model,
    data: options.Data,
    out: Path,
    *,
    column: str | None = None,
    strict: bool = False,
    scoring: Group[options.Scoring] = options.SCORING,
    machine: Group[options.Machine] = options.MACHINE,
) -> None:
    """Score finished samples, wherever they come from.

    Args:
        model: a shipped model's name, or a folder: of a model, or of a pipeline of diffusers.
        data: a folder of images, .npy, .csv, .safetensors, .parquet, or a folder written by datasets.
        out: file for the scores: .parquet or .csv (with ids), or .npy.
        column: of a table, that holds the samples; found out unless given.
        strict: stop at the first sample that cannot be read, rather than skip and list it.
    """
    import numpy as np

    from intermode.data import open_source
    from intermode.detect import describe
    from intermode.filtering import check_outside
    from intermode.models import load
    from intermode.progress import Bars
    from intermode.sampling import fit_detectors, summary
    from intermode.scores import check_file, read_scores
    from intermode.scoring import score_source

    check_file(out)
    check_outside(out, data)
    machine.use()
    denoiser = load(model).to(machine.device)
    detectors = scoring.made(denoiser, "finished")
    if (seen := scoring.data(denoiser)) is not None:
        fit_detectors(detectors, denoiser, seen, machine.seed)
    scored = score_source(
        detectors,
        denoiser,
        open_source(data, denoiser.shape, column=column, progress=Bars()),
        out,
        settings={d.name: describe(d) for d in detectors} | ({"fit": str(scoring.fit)} if scoring.fit else {}),
        condition=scoring.condition,
        seed=machine.seed,
        chunk=machine.chunk,
        device=machine.device,
        column=column,
        strict=strict,
        workers=machine.workers,
        on=machine.on,
        progress=Bars(),
    )
    skipped = f", {scored.skipped:,} skipped, listed in {scored.listed}" if scored.skipped else ""
    print(f"scores: {out} ({scored.samples - scored.skipped:,}{skipped})")
    for detector, values in zip(detectors, read_scores(out).columns.values(), strict=True):
        print(summary(detector.name, values[~np.isnan(values)]))
    by = ["--by", detectors[0].name] if len(detectors) > 1 else []
    then = ["filter", str(data), "--scores", str(out), *by, "--kept", "0.9", "--out", f"{data.stem}-filtered"]
    print(f"next: {shlex.join(['intermode', *then])}")


def filter(
    data: options.Data,
    out: Path,
    *,
    scores: Path | None = None,
    by: str | None = None,
    kept: float | None = None,
    reference: Path | None = None,
    alpha: float = 0.01,
    labels: Path | None = None,
    removed: float = 0.95,
    within: str | None = None,
    column: str | None = None,
) -> None:
    """Keep the samples under a threshold; the input is never changed. Give one of: kept; reference; labels.

    Args:
        data: a folder of images, .npy, .csv, .safetensors, .parquet, or a folder written by datasets.
        out: folder for kept and rejected samples, their scores, threshold.json and, of images, sheet.png.
        scores: scores of the samples (.parquet, .csv, .npy); unless given, those in a .safetensors file.
        by: the score, where a file holds several; lid unless given.
        kept: keep this share of the samples, those with the lowest scores.
        reference: scores of samples known to be good: with alpha, a guarantee on what is kept.
        alpha: a good sample is lost with at most this probability (with reference).
        labels: whether samples are hallucinated, 0 or 1: for each (.npy, .csv), or by id (.csv, .parquet).
        removed: remove this share of the hallucinations (with labels).
        within: labels, such as classes, that get a threshold each, so that none is starved: a file (.npy, .csv or
            .parquet, by row or by id), or a column of the data (of a folder of images, label is the folder of each).
        column: of a table, that holds the images for the sheet; found out unless given.
    """
    given = locals()
    from intermode import filtering

    print(filtering.filter(**given))
    sheet = out / "sheet.png"
    print(f"folder: {out}" + (f"; look at {sheet} before anything is thrown away" if sheet.exists() else ""))


def repair(
    model: options.Model,
    samples: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="SAMPLES")]],
    out: Path,
    *,
    detector: str | None = None,
    threshold: options.Limit = None,
    share: float = 0.02,
    level: options.Level = None,
    tries: int = 5,
    replace: bool = False,
    labels: Path | None = None,
    column: str | None = None,
    chain: Group[options.Chain] = options.CHAIN,
    seed: int = 0,
    chunk: int | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """Restart the samples that look worst until they pass; all others stay as they are.

    Args:
        model: a shipped model's name, or a folder: of a model, or of a pipeline of diffusers.
        samples: a folder of images, .npy, .csv, .safetensors, .parquet, or a folder written by datasets; never changed.
        out: folder for samples.safetensors, repaired.csv, before-after.png and, of a folder of images, images.
        detector: whose score a sample has to pass; lid of 4 noises unless given.
        threshold: the largest score that passes: a number, or the threshold.json of intermode filter.
        share: of the samples restarted, those with the highest scores, unless there is a threshold.
        level: where restarts begin: a timestep, a share of T (0.1), or snr:LOW,HIGH; unless given t = 3 of 1000 for a
            few numbers, and 100 for images.
        tries: restarts of a sample, at most.
        replace: draw anew what no restart mends.
        labels: classes of the samples (.npy or .csv), for a model that is told them.
        column: of a table, that holds the samples; found out unless given.
        seed: random numbers belong to (seed, sample index, try).
        chunk: samples computed together; as many as memory allows unless given.
        device: cpu or cuda.
        threads: torch's on a CPU.
    """
    from intermode.thresholds import Threshold

    limit = None if threshold is None else Threshold.of(threshold)
    from intermode.models import load
    from intermode.progress import Bars
    from intermode.repaired_files import repair_files
    from intermode.scores import read_classes

    options.use(device, threads)
    repaired = repair_files(
        load(model).to(device),
        samples,
        threshold=limit,
        level=options.level_of(level),
        sampler=chain.made(),
        condition=None if labels is None else {"class_labels": read_classes(labels, "labels")},
        **_of(locals(), "out", "detector", "share", "tries", "replace", "column", "seed", "chunk"),
        progress=Bars(),
    )
    print(repaired.told())
    sheet = out / "before-after.png"
    print(f"samples: {out / 'samples.safetensors'}" + (f"; look at {sheet}" if sheet.exists() else ""))


def off_support(
    model: options.Model,
    target: tyro.conf.Positional[Annotated[Literal["line", "grid", "diamond"], tyro.conf.arg(metavar="TARGET")]],
    *,
    means: tuple[float, ...] = (1.0, 2.0, 3.0),
    sigma: float = 0.05,
    low: float | None = None,
    high: float | None = None,
    chain: Group[options.Chain] = options.CHAIN,
) -> None:
    """The share of a model's samples that the data cannot have, without sampling: in one and two dimensions.

    Args:
        model: a shipped model's name, or a folder.
        target: the data: line (the paper's 1-D mixture), grid or diamond (its lattices).
        means: of the modes of a line.
        sigma: width of each.
        low: lower end of the grid; found out unless given.
        high: upper end.
    """
    from intermode import exact
    from intermode.targets.gaussian import line
    from intermode.targets.lattice import LATTICES

    data = line(means, sigma) if target == "line" else LATTICES[target]()
    print(f"off the support: {exact.off_support(model, data, chain.made(), low, high)}")


def windows(
    model: options.Model,
    *,
    out: Path | None = None,
    n: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None,
    levels: tuple[int, ...] | None = None,
    scale: float | None = None,
    target: Annotated[str | None, tyro.conf.arg(metavar="line|grid|diamond|shapes")] = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    chain: Group[options.Chain] = options.CHAIN,
) -> None:
    """Find the noise levels at which a model decides what a sample is, without labels, by restarting its samples.

    Args:
        model: a shipped model's name, or a folder: of a model, or of a pipeline of diffusers.
        out: folder for windows.json and windows.png.
        n: samples to draw and restart; unless given 1000 of a few numbers and 128 images.
        levels: timesteps to restart from; unless given coarse ones, and finer ones where the change rises.
        scale: squared change beyond which a sample counts as another one; unless given what noise cannot explain, of
            images a quarter of the mean squared distance of two.
        target: the data, if its labels are known: then also what becomes of each kind of errors.
        seed: noise belongs to (seed, sample, level).
        device: cpu or cuda.
        threads: torch's on a CPU.
    """
    from intermode import critical
    from intermode.models import load
    from intermode.targets.known import named

    options.use(device, threads)
    labels = None if target is None else named(target)
    found = critical.critical_windows(
        load(model).to(device),
        sampler=None if chain == options.CHAIN else chain.made(),
        labels=labels,
        **_of(locals(), "n", "levels", "scale", "seed"),
        progress=True,
    )
    print(found)
    if out is not None:
        found.save(out)
        print(f"folder: {out}")


def list_studies() -> None:
    """The studies, what they reproduce of the paper, their tiers and what these take."""
    from intermode.studies import STUDIES, find
    from intermode.study import TIERS

    found = [find(name) for name in STUDIES]
    rows = ((s.name, s.figures, s.summary, *(s.times.get(tier, "–") for tier in TIERS)) for s in found)
    _show(["study", "paper", "what it shows", *TIERS], rows, ", ".join(f"{k}: {v}" for k, v in TIERS.items()))


def reproduce(args: Sequence[str]) -> None:
    """Run a study, or a file with one of your own: claims with intervals, figures, a report."""
    from intermode.studies import STUDIES

    listed = ", ".join(STUDIES)
    if not args or args[0] in ("-h", "--help"):
        print(
            "usage: intermode reproduce STUDY [--tier smoke|quick|long|paper] [--out FOLDER] ...\n\n"
            "Runs a study, or the STUDY of a file.py; the same command again goes on where it was interrupted.\n"
            f"Studies: {listed}.\n"
            "intermode reproduce STUDY --help shows its settings."
        )
        return
    name, *rest = args
    if name.startswith("-"):
        raise InputError(f"study: must come before {name} (choose from {listed})")
    from intermode.reports import interval
    from intermode.study import configured, differing, load_study
    from intermode.study import reproduce as run

    study, tier = load_study(name), flag(rest, "--tier", "quick")
    default = configured(study, tier)
    parts = [
        ("tier", Annotated[Literal[tuple(study.tiers)], tyro.conf.arg(help="Other numbers, same code.")], tier),
        ("out", Annotated[Path, tyro.conf.arg(help="The run folder.")], Path("runs") / f"{study.name}-{tier}"),
        ("work", Group[options.Work], options.WORK),
        ("config", Annotated[type(default), tyro.conf.arg(name="")], default),
    ]
    declared = [(key, kind, field(default=value)) for key, kind, value in parts]
    typed = make_dataclass("Options", declared, namespace={"__doc__": study.summary})
    chosen = parse(typed, rest, f"reproduce {name}")()
    settings = differing(chosen.config, default)
    metrics = run(name, tier, chosen.out, settings=settings, **vars(chosen.work), progress=True)
    holds = {True: "yes", False: "no", None: "not decided"}
    claims = ((c["statement"], c["paper"], interval(c), holds[c["holds"]]) for c in metrics["claims"])
    _show(["claim", "paper", "measured (95 % interval)", "holds"], claims)
    for line in metrics["missing"]:
        print(f"missing: {line}")
    print(f"report: {chosen.out / 'report.html'}")


def bench(args: Sequence[str]) -> None:
    """Compare all detectors on the same samples, where the truth is known: a study like the others."""
    reproduce(["bench", *args])


def status(run: options.Folder = Path("runs")) -> None:
    """How far a run is: its jobs done, running, failed and waiting, and the time left.

    Args:
        run: run folder; or a folder of such, each told in a line.
    """
    from intermode.status import left
    from intermode.status import status as look

    runs = [path.parent.parent for path in sorted(run.glob("*/jobs/plan.json"))] or [run]
    for folder in runs:
        jobs = look(folder)
        states = [job.state for job in jobs]
        counts = ", ".join(f"{states.count(state):,} {state}" for state in dict.fromkeys(states))
        if folder == run:
            rows = ((j.name, j.state, f"{j.seconds:.0f} s", j.words) for j in jobs)
            _show(["job", "state", "spent", "how far"], rows)
        seconds = left(jobs, max(states.count("running"), 1))
        print(f"{folder}: {counts}" + (f"; about {seconds:.0f} s left" if seconds else ""))


def report(run: options.Folder) -> None:
    """Write a run's report again from its metrics and figures.

    Args:
        run: run folder.
    """
    from intermode.reports import write_report

    print(f"report: {write_report(run)}")


def explore(
    samples: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="SAMPLES|RUN")]],
    *,
    scores: Path | None = None,
    labels: Path | None = None,
    within: str | None = None,
    data: Path | None = None,
    column: str | None = None,
    show: int | None = None,
    out: Path | None = None,
) -> None:
    """Write a page to look through samples and their scores: move a threshold, see what goes, take the command.

    Args:
        samples: a folder of images, .npy, .csv, .safetensors, .parquet, a folder written by datasets or by intermode
            sample; or the run of a study.
        scores: of the samples (.parquet, .csv, .npy); unless given, those that they bring.
        labels: whether samples are hallucinated, 0 or 1: for each (.npy, .csv), or by id (.csv, .parquet).
        within: labels, such as classes, that can get a threshold each: a file, or a column of the data.
        data: training images, of which the nearest to a sample are shown.
        column: of a table, that holds the samples; found out unless given.
        show: how many samples are shown, of all that are counted; all images and 20,000 points unless given.
        out: the page; NAME-explorer.html here unless given, of a run explorer.html in its folder.
    """
    given = locals()
    from intermode import explorer

    print(f"page: {explorer.explore(**given, progress=True)}; open it in a browser")


def explain(
    model: options.Model,
    samples: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="SAMPLES|RUN")]],
    index: tyro.conf.Positional[Annotated[int, tyro.conf.arg(metavar="INDEX")]],
    *,
    out: Path | None = None,
    scores: Path | None = None,
    by: str | None = None,
    data: Path | None = None,
    target: Annotated[str | None, tyro.conf.arg(metavar="line|grid|diamond|shapes")] = None,
    labels: Path | None = None,
    column: str | None = None,
    level: options.Level = None,
    chain: Group[options.Chain] = options.CHAIN,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """Explain one sample: how suspect it is, what it lies between, when it was decided, what a restart makes of it.

    Args:
        model: a shipped model's name, or a folder: of a model, or of a pipeline of diffusers.
        samples: a folder of images, .npy, .csv, .safetensors, .parquet, a folder written by datasets or by intermode
            sample; or the run of a study.
        index: of the sample, from 0.
        out: the picture, a .png; a .json beside it has the sentences and all numbers. SAMPLES-INDEX.png here unless
            given.
        scores: of the samples (.parquet, .csv, .npy); unless given, those that they bring, and else some of them are
            scored.
        by: name of the score, where there are several.
        data: training data, whose nearest samples are looked for.
        target: what the data is, if that is known; that of a shipped model is.
        labels: classes of the samples (.npy or .csv), for a model that is told them.
        column: of a table, that holds the samples; found out unless given.
        level: where restarts begin, as of intermode repair.
        seed: noise belongs to (seed, sample).
        device: cpu or cuda.
        threads: torch's on a CPU.
    """
    picture = Path(f"{samples.resolve().stem}-{index}.png") if out is None else out
    from intermode import explaining
    from intermode.filtering import check_outside
    from intermode.models import load
    from intermode.scores import read_classes
    from intermode.targets.known import named, of_model

    explaining.check_picture(picture)
    check_outside(picture, samples)
    options.use(device, threads)
    found = explaining.explain(
        load(model).to(device),
        samples,
        index,
        target=of_model(model) if target is None else named(target),
        condition=None if labels is None else {"class_labels": read_classes(labels, "labels")},
        level=options.level_of(level),
        sampler=chain.made(),
        **_of(locals(), "scores", "by", "data", "column", "seed"),
        progress=True,
    )
    found.save(picture)
    print(f"{found}\npicture: {picture}; numbers: {picture.with_suffix('.json')}")


def animate(
    model: options.Model,
    out: Path,
    *,
    target: Annotated[str | None, tyro.conf.arg(metavar="line|shapes")] = None,
    means: tuple[float, ...] = (1.0, 2.0, 3.0),
    sigma: float = 0.05,
    n: options.Count = 64,
    chain: Group[options.Chain] = options.CHAIN,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """Write a film: in one dimension the exact law of the chain beside the true one, of images x0_hat of two of them.

    Args:
        model: a shipped model's name, or a folder: of a model, or of a pipeline of diffusers.
        out: the film, a .gif, or an .html with a player.
        target: what the data is: line, of these means and sigma, needed in one dimension; shapes. That of a shipped
            model is known. Of other images Hal says which one is flagged.
        means: of the modes of a line.
        sigma: width of each.
        n: images drawn, of which two are shown.
        seed: random numbers belong to (seed, sample).
        device: cpu or cuda.
        threads: torch's on a CPU.
    """
    from intermode import animating
    from intermode.models import load
    from intermode.targets.gaussian import line
    from intermode.targets.known import named, of_model

    options.use(device, threads)
    known = of_model(model) if target is None else line(means, sigma) if target == "line" else named(target)
    made = animating.animate(
        load(model).to(device),
        out,
        target=known,
        sampler=None if chain == options.CHAIN else chain.made(),
        **_of(locals(), "n", "seed"),
        progress=True,
    )
    print(f"film: {made} ({made.stat().st_size / 1e6:.2g} MB)")


def data(
    name: tyro.conf.Positional[Annotated[Literal["mnist", "fashion-mnist"], tyro.conf.arg(metavar="NAME")]],
    *,
    data: Path | None = None,
    out: Path | None = None,
) -> None:
    """Fetch MNIST or Fashion-MNIST and verify its files.

    Args:
        name: mnist or fashion-mnist.
        data: folder with the four idx files, plain or .gz; downloaded unless given.
        out: folder for them; intermode/NAME in the user's cache unless given.
    """
    from intermode.progress import Bars
    from intermode.targets.digits import load
    from intermode.targets.fetch import DATASETS, cache_folder, fetch

    folder = cache_folder(name) if out is None else out
    fetch(DATASETS[name], folder, data, Bars())
    print(f"data: {folder} ({len(load(folder, 'train')):,} + {len(load(folder, 'test')):,} images, checksums verified)")


def _of(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: given[name] for name in names}


def _show(head: Iterable[str], rows: Iterable[Iterable[str]], caption: str | None = None) -> None:
    """A table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*head, caption=caption)
    for row in rows:
        table.add_row(*map(escape, row))
    # a pipe has no width of its own: lines should not break at 80 there
    (Console() if sys.stdout.isatty() else Console(width=140)).print(table)


COMMANDS: Mapping[str, Callable[..., None]] = {
    "train": train,
    "sample": sample,
    "score": score,
    "filter": filter,
    "repair": repair,
    "windows": windows,
    "off-support": off_support,
    "list": list_studies,
    "reproduce": reproduce,
    "bench": bench,
    "status": status,
    "report": report,
    "explore": explore,
    "explain": explain,
    "animate": animate,
    "data": data,
}

OVERVIEW = """\
usage: intermode COMMAND ...

Find, explain and remove the hallucinations of diffusion models.

commands:
{commands}

intermode COMMAND --help explains a command. In Python they are functions: intermode.train, intermode.sample, ...;
intermode.watch, which watches a pipeline of diffusers while it works, is in Python alone."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 for input that cannot be used, 130 after an interrupt."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        rows = [f"  {name:<12} {(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
        print(OVERVIEW.format(commands="\n".join(rows)))
        return 0
    if args[0] == "--version":
        from importlib.metadata import version

        print(f"intermode {version('intermode')}")
        return 0
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
            name, *rest = args
            if name not in COMMANDS:
                raise unknown("command", name, COMMANDS)
            command = COMMANDS[name]
            if command in (reproduce, bench):
                command(rest)
            else:
                parse(command, rest, name)()
    except KeyboardInterrupt:
        again = shlex.join(["intermode", *args])
        print(f"interrupted; finished parts are kept, go on with: {again}", file=sys.stderr)
        return 130
    except Exception as error:
        message, status = told(error)
        print(f"error: {message}", file=sys.stderr)
        return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
