"""A study as a declaration: configs by tier, named jobs, measures, claims, pictures; and what runs it.

::

    STUDY = Study(
        "gaussian-1d", figures="Figs. 2, 5a, 6a", summary="...", config=Config,
        tiers={"smoke": {"pool.n": 20_000}, "quick": {}},
        jobs=jobs,              # config -> {name: Job}
        measures=(rates, ...),  # (config, found) -> Measured
        claims=claims,          # config -> [Claim(...)]
        pictures=(...),         # Picture(name, draw)
    )

A measure is an :class:`~intermode.evaluation.Estimate` with its interval, a claim names a measure and a bound, and what
is decided follows from these alone: a claim is true or false if the whole interval lies on one side of the bound, and
not decided otherwise, nor where there is no interval. ``metrics.json`` holds all that a report or a table shows.
"""

from __future__ import annotations

import importlib.util
import json
import math
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

from intermode.engines import engine
from intermode.errors import InputError
from intermode.evaluation import Estimate
from intermode.files import read_json, write_json
from intermode.jobs import Done, Job, Missing, Store, described, run_jobs
from intermode.progress import Progress
from intermode.provenance import provenance
from intermode.values import check_machine
from intermode.verbs import nearest, shown, strict, unknown

__all__ = [
    "TIERS",
    "Bound",
    "Claim",
    "Found",
    "Measured",
    "Missing",
    "Picture",
    "Study",
    "at_least",
    "below",
    "bench",
    "configured",
    "differing",
    "load_study",
    "reproduce",
]

TIERS = {
    "smoke": "seconds, for tests",
    "quick": "minutes on two CPU cores, from scratch",
    "long": "hours on two CPU cores",
    "paper": "the paper's sizes, for a GPU",
}


@dataclass(frozen=True)
class Bound:
    """A half line.

    Attributes:
        side: where values must lie: ``at least`` the value or ``below`` it.
        value: its end.
    """

    side: Literal["at least", "below"]
    value: float

    def decide(self, estimate: Estimate | None) -> bool | None:
        """True or False if the whole interval agrees; None if it does not, or if there is none."""
        if estimate is None or not estimate.method or math.isnan(estimate.low + estimate.high):
            return None
        above, under = estimate.low >= self.value, estimate.high < self.value
        return above == (self.side == "at least") if above or under else None


def at_least(value: float) -> Bound:
    """The bound of a claim that a measure is at least ``value``."""
    return Bound("at least", value)


def below(value: float) -> Bound:
    """The bound of a claim that a measure lies under ``value``."""
    return Bound("below", value)


@dataclass(frozen=True)
class Claim:
    """A statement that a measure decides.

    Attributes:
        id: short name, unique within the study.
        measure: name of the estimate.
        bound: where it must lie.
        statement: in words, the bound included.
        paper: what the paper reports, in words or as a number.
    """

    id: str
    measure: str
    bound: Bound
    statement: str
    paper: str


@dataclass
class Measured:
    """What was found.

    Attributes:
        values: estimates, plain numbers, and words, by name.
        series: the tables behind curves, as JSON.
        notes: findings in words, made from the numbers.
        rows: of a table that compares many things, each with the same keys.
    """

    values: dict[str, Estimate | float | int | str | None] = field(default_factory=dict)
    series: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: Measured) -> None:
        """Take in what another one holds.

        Raises:
            InputError: a value of that name is there already.
        """
        if repeated := self.values.keys() & other.values.keys():
            raise InputError(f"measures: {sorted(repeated)[0]} is measured twice")
        self.values |= other.values
        self.series |= other.series
        self.notes += other.notes
        self.rows += other.rows

    def estimate(self, name: str) -> Estimate | None:
        """The estimate of that name; a plain number has no interval, and words are none."""
        found = self.values.get(name)
        if isinstance(found, int | float):
            return Estimate(found, found, found)
        return found if isinstance(found, Estimate) else None


class Found(Mapping[str, Done]):
    """The finished jobs of a study by name; one that failed raises :class:`Missing`."""

    def __init__(self, jobs: Mapping[str, Job], store: Store, failed: Mapping[str, str]) -> None:
        self._jobs, self._store, self._failed = jobs, store, failed

    def __getitem__(self, name: str) -> Done:
        done = self._store.done(self._jobs[name])
        if done is None:
            raise Missing(f"{name} ({self._failed.get(self._jobs[name].folder, 'not finished')})")
        return done

    def __iter__(self) -> Iterator[str]:
        return iter(self._jobs)

    def __len__(self) -> int:
        return len(self._jobs)


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        name: of its file.
        draw: writes it to a path (.png), from the config, the jobs and the measures, and returns the caption; None if
            there is nothing to show.
    """

    name: str
    draw: Callable[[Any, Found, Measured, Path], str | None]


@dataclass(frozen=True)
class Study:
    """See the module's docstring.

    Attributes:
        name: of the study.
        figures: of the paper that it reproduces; a dash if none.
        summary: one line.
        config: a frozen dataclass whose defaults are the quick tier; each checks itself.
        tiers: by name, what differs from the defaults: dotted names to values.
        times: what each tier takes, in words.
        jobs: the jobs of a config by name.
        measures: each is left out if a job that it reads has failed.
        claims, pictures: of a config.
    """

    name: str
    figures: str
    summary: str
    config: type[Any]
    tiers: Mapping[str, Mapping[str, Any]]
    jobs: Callable[[Any], Mapping[str, Job]]
    measures: Sequence[Callable[[Any, Found], Measured]]
    claims: Callable[[Any], Sequence[Claim]]
    pictures: Callable[[Any], Sequence[Picture]]
    times: Mapping[str, str] = field(default_factory=dict)


def configured(study: Study, tier: str = "quick", settings: Mapping[str, Any] | None = None) -> Any:
    """The config of a tier, with further settings by dotted names.

    Raises:
        InputError: an unknown tier or setting, with the nearest known one, or a value that cannot be used.
    """
    if tier not in study.tiers:
        raise unknown("tier", tier, study.tiers)
    return _changed(study.config(), {**study.tiers[tier], **(settings or {})}, "")


def _changed(config: Any, settings: Mapping[str, Any], prefix: str) -> Any:
    known = {f.name for f in fields(config)}
    nested: dict[str, dict[str, Any]] = {}
    plain: dict[str, Any] = {}
    for name, value in settings.items():
        head, _, rest = name.partition(".")
        if head not in known or (rest and not is_dataclass(getattr(config, head))):
            close = nearest(head, known)
            hint = f"; did you mean {prefix}{close}?" if close else f"; choose from {', '.join(sorted(known))}"
            raise InputError(f"settings: unknown {prefix}{name}{hint}")
        if rest:
            nested.setdefault(head, {})[rest] = value
        else:
            plain[head] = value
    given = {head: plain.get(head, getattr(config, head)) for head in nested}
    changed = {head: _changed(given[head], inner, f"{prefix}{head}.") for head, inner in nested.items()}
    return replace(config, **{**plain, **changed})  # at once: settings are checked together


def differing(config: Any, default: Any, prefix: str = "") -> dict[str, Any]:
    """The settings that make one config of another, by dotted names."""
    found: dict[str, Any] = {}
    for f in fields(config):
        here, there = getattr(config, f.name), getattr(default, f.name)
        if here == there and type(here) is type(there):
            continue
        if is_dataclass(here) and type(here) is type(there):
            found |= differing(here, there, f"{prefix}{f.name}.")
        else:
            found[f"{prefix}{f.name}"] = here
    return found


def load_study(name: str) -> Study:
    """A study by its name, or the ``STUDY`` of a Python file.

    Raises:
        InputError: an unknown name, or a file that cannot be imported or has no STUDY.
    """
    from intermode.studies import find

    if not name.endswith(".py"):
        return find(name)
    path = Path(name).resolve()
    if not path.exists():
        raise InputError(f"study: {name} is not found")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # so that worker processes find it too
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[path.stem]
        words = str(error).strip().splitlines() or [""]
        raise InputError(f"study: {name} cannot be imported ({type(error).__name__}: {words[0]})") from None
    if not isinstance(found := getattr(module, "STUDY", None), Study):
        raise InputError(f"study: {name} defines no STUDY = Study(...)")
    return found


@strict
def reproduce(
    study: str | Study,
    tier: str = "quick",
    out: str | Path | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    workers: int = 1,
    on: str | None = None,
    jobs: str | Path | None = None,
    device: str = "cpu",
    threads: int = 1,
    progress: Progress | bool | None = None,
) -> dict[str, Any]:
    """Run a study: claims with intervals, figures, a report. The same call again goes on where it was interrupted.

    Args:
        study: a name (``intermode list``), a Python file with a ``STUDY``, or the study itself.
        tier: smoke, quick, long or paper: the same code with other numbers.
        out: run folder; ``runs/STUDY-TIER`` unless given.
        settings: what differs from the tier, by dotted names: ``{"model.train.steps": 1000}``.
        workers: jobs done at a time, each in a process of its own; 0 does none and says what those that are finished
            show, also of a run that is going on.
        on: ``ray`` or a cluster's address, instead of processes of this machine.
        jobs: folder of the finished jobs, in the run folder unless given; runs that share it share their work.
        device, threads: of each job.
        progress: shown to the user; True for bars.

    Returns:
        the metrics, as they lie in the run folder.

    Raises:
        InputError: an unknown study, tier or setting, a run folder of another config, a claim that names no measure, or
            what :func:`intermode.jobs.run_jobs` refuses.
    """
    chosen = study if isinstance(study, Study) else load_study(str(study))
    config = configured(chosen, tier, settings)
    place = Path(out) if out is not None else Path("runs") / f"{chosen.name}-{tier}"
    check_machine(device, threads)
    working = engine(workers, on) if workers != 0 else None
    named, claims = chosen.jobs(config), chosen.claims(config)
    if len({claim.id for claim in claims}) < len(claims):
        raise InputError(f"claims: two of {chosen.name} have one id")
    _take(place, chosen, tier, config)
    store = Store(Path(jobs) if jobs is not None else place / "jobs")
    wanted = list(named.values())
    failed: dict[str, str] = {}
    if working is not None:
        failed = run_jobs(wanted, store, working, device=device, threads=threads, progress=shown(progress))
    about = {"study": chosen.name, "summary": chosen.summary, "paper": chosen.figures, "tier": tier}
    metrics = {
        **about,
        "tier_means": TIERS.get(tier, ""),
        "seed": getattr(config, "seed", None),
        **_made([done for job in wanted if (done := store.done(job)) is not None]),
        "command": shlex.join(_words(study, tier, settings or {})),
        "config": asdict(config),
        **_analysed(chosen, config, claims, Found(named, store, failed), place / "figures"),
    }
    metrics = _keep(place / "metrics.json", json.loads(json.dumps(_finite(metrics), default=str)))
    from intermode.explorer import explore_run
    from intermode.reports import write_report

    explore_run(place, [done for job in wanted if (done := store.done(job)) is not None and done.whole])
    write_report(place)
    return metrics


@strict
def bench(
    tier: str = "quick",
    out: str | Path | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    workers: int = 1,
    on: str | None = None,
    progress: Progress | bool | None = None,
) -> dict[str, Any]:
    """Compare all detectors on the same samples, where the truth is known: ``reproduce("bench", ...)``."""
    return reproduce("bench", tier, out, settings=settings, workers=workers, on=on, progress=progress)


def _words(study: str | Study, tier: str, settings: Mapping[str, Any]) -> list[str]:
    """The command that runs it again."""
    words = ["intermode", "reproduce", study.name if isinstance(study, Study) else str(study), "--tier", tier]
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag if value else f"{flag.rpartition('.')[0]}.no-{flag.rpartition('.')[2]}")
        elif isinstance(value, list | tuple):
            words += [flag, *(",".join(map(str, v)) if isinstance(v, list | tuple) else str(v) for v in value)]
        else:
            words += [flag, str(value)]
    return words


def _analysed(study: Study, config: Any, claims: Sequence[Claim], found: Found, figures: Path) -> dict[str, Any]:
    """What the jobs say: measured, decided and drawn; and what is missing because of those that failed."""
    measured, captions, missing = Measured(), {}, []
    for measure in study.measures:
        try:
            measured.add(measure(config, found))
        except Missing as error:
            missing.append(f"{measure.__name__}: {error}")
    if not missing and (unknown := [c for c in claims if c.measure not in measured.values]):
        raise InputError(f"claims: {unknown[0].id} names the measure {unknown[0].measure!r}, which is not measured")
    for picture in study.pictures(config):
        try:
            if (caption := picture.draw(config, found, measured, figures / f"{picture.name}.png")) is not None:
                captions[picture.name] = caption
        except Missing as error:
            missing.append(f"{picture.name}: {error}")
    return {
        "values": {name: v.value if isinstance(v, Estimate) else v for name, v in measured.values.items()},
        "measures": {name: asdict(v) for name, v in measured.values.items() if isinstance(v, Estimate)},
        "claims": [_decided(claim, measured.estimate(claim.measure)) for claim in claims],
        "series": measured.series,
        "figures": captions,
        "notes": measured.notes,
        "missing": missing,
        **({"rows": measured.rows} if measured.rows else {}),
    }


def _decided(claim: Claim, estimate: Estimate | None) -> dict[str, Any]:
    """A claim with what was measured: the one place where it is decided."""
    value, low, high = estimate.triple if estimate is not None else (None, None, None)
    if estimate is None or not estimate.method:
        low = high = None
    said = {**asdict(claim), "bound": f"{claim.bound.side} {claim.bound.value:g}"}
    return {**said, "measured": value, "low": low, "high": high, "holds": claim.bound.decide(estimate)}


def _take(out: Path, study: Study, tier: str, config: Any) -> None:
    """Take a folder for a run; one of another run, or with other things in it, is refused."""
    wanted = {"study": study.name, "tier": tier, "config": described(config)}
    record = out / "config.json"
    if record.exists():
        found = read_json(record)
        if not isinstance(found, dict) or found.keys() != wanted.keys():
            raise InputError(f"out: {out} holds a config.json that is no run's of this version; choose another folder")
        there, here = _flat(found), _flat(json.loads(json.dumps(wanted)))
        if differing := [k for k in {**there, **here} if there.get(k) != here.get(k)]:
            listed = ", ".join(f"{k} is {there.get(k)} there and {here.get(k)} here" for k in differing[:3])
            raise InputError(f"out: {out} holds another run ({listed}); choose another folder")
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"out: {out} is not empty and holds no run; choose another folder")
    write_json(record, wanted)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}; the names of dataclasses, with which configs are described, are left out."""
    if not isinstance(value, dict):
        return {prefix: value}
    found: dict[str, Any] = {}
    for name, inner in value.items():
        here = prefix if name[:1].isupper() else f"{prefix}.{name}" if prefix else name
        found |= _flat(inner, here)
    return found


def _made(done: Sequence[Done]) -> dict[str, Any]:
    """What the jobs were made with: the stamps of when they were made, whoever looks at them now."""
    made = [one.made for one in done]

    def all_of(values: list[Any]) -> str | None:
        return ", ".join(dict.fromkeys(str(value) for value in values if value is not None)) or None

    packages = dict.fromkeys(name for stamp in made for name in stamp["versions"])
    return {
        "commit": all_of([stamp["commit"] for stamp in made]),
        "device": all_of([stamp["device"] for stamp in made]),
        "versions": {name: all_of([stamp["versions"].get(name) for stamp in made]) for name in packages},
        "seconds": round(sum(stamp["seconds"] for stamp in made), 2),
    }


def _finite(value: Any) -> Any:
    """JSON knows no infinities, and NaN says nothing."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _keep(record: Path, metrics: dict[str, Any]) -> dict[str, Any]:
    """Write the metrics, with the commit that analysed; those that say the same already are left as they are."""
    if record.exists():
        try:
            found = read_json(record)
        except InputError:
            found = {}
        if {k: v for k, v in found.items() if k != "analysed"} == metrics:
            return dict(found)
    metrics["analysed"] = provenance("cpu")["commit"]
    write_json(record, metrics)
    return metrics
