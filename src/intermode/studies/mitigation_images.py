r"""What a mitigation does to images of Simple Shapes, which an oracle reads (:mod:`intermode.targets.shape_oracle`).

All start from one pool of the model's images, so that methods differ in nothing else. Off the support is told by kind:
two of a kind, between places, deformed, blank. Beside it stands the *content*: a score that counts what is in an image
throws away those with many shapes, and what is left has fewer hallucinations and fewer shapes. The modes are the seven
patterns of which shapes there are; their weights, and the mean number of shapes, are of the images on the support.

Detectors look at the model's critical windows, found without labels, at few noises: a chain has 50 steps, and a score
that asks the network 16 times costs a third of it. One looks under these, too, where details are decided: a shape half
way between two places shows there or nowhere. What the windows cost is told, and not shared out: they are found
once for a model.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from intermode import plots
from intermode.denoisers import Denoiser
from intermode.detect import SampleDetector
from intermode.detect.bias import Bias
from intermode.detect.critical import InWindows, in_critical_windows
from intermode.detect.hal import HalRenoise
from intermode.detect.lid import LID
from intermode.detect.oracle import Oracle
from intermode.detect.registry import Setting, make
from intermode.detect.residual import Residual
from intermode.detect.white import white
from intermode.detect.window import Window
from intermode.early_stop import EarlyStop
from intermode.errors import InputError
from intermode.evaluation import Estimate, ratio_of_shares, share
from intermode.jobs import Job, Running
from intermode.noise import NoiseStream
from intermode.repairs import Repair, repair_all
from intermode.sampling import Drawing, score
from intermode.studies.mitigation_cells import divergence, evaluation_seconds
from intermode.study import Claim, Found, Measured, Missing, at_least
from intermode.study.configs import Pool, ShapesModel, Training, check_least
from intermode.study.hal import choosing_half
from intermode.study.steps import denoiser_of, model_job, pool_job, pool_of, windows_job, windows_known
from intermode.targets.shape_oracle import ShapeLabels

__all__ = ["Images", "Treatment", "claims", "jobs_of", "measure", "repaired", "treatments"]

PLAIN, ORACLE, WHITE, HAL = "ancestral", "oracle", "white", "hal"
KINDS = ("duplicate", "between-places", "deformed", "blank")
"""What is off the support, by the oracle's rule."""
CRITICAL: Mapping[str, Any] = {
    "residual": Residual(window="critical"),
    "bias": Bias(window="critical"),
    "lid": LID(noises=4, window="critical"),
    "hal-renoise": HalRenoise(window="critical", count=4),
}
"""Detectors of finished images, in the critical windows alone."""
DETAILS = "lid-details"
"""And ``lid`` in these and where details are decided."""
LOOKING = (*CRITICAL, DETAILS)
FREE_OF_LABELS = (*LOOKING, HAL)
WHERE = {
    **dict.fromkeys(CRITICAL, "critical windows"),
    **{DETAILS: "critical windows and details", HAL: "the paper's window", WHITE: "no model"},
}
LOW, AROUND = 100, (50, 150)
"""Timestep of 1000 under which details are decided, where repairs of images begin unless told otherwise; and those that
a detector of details looks at."""
LEVELS = {"low": f"from t = {LOW}", "critical": "from the critical window"}
TRIES = 3
"""Restarts of a flagged image, at most."""
SHOWN = 12
"""Repaired images that are kept, to be looked at."""
CONTENT = 0.05
"""How far the mean number of shapes may be from that of the undisturbed chain."""
LEAST = 3
"""Of off-support images before over after, that a repair is claimed to reach."""

Part = Literal["all", "choose", "judge"]


@dataclass(frozen=True)
class Images:
    """The images of ``mitigations``.

    Attributes:
        shapes: the well-trained model; the undertrained one is shipped too, or trained for ``under`` steps.
        models: that are measured, well and under; settings are chosen on the first.
        pool: images drawn of each, and how.
        methods: that are measured; all if there are none.
        under: optimiser steps of an undertrained model that is trained here.
    """

    shapes: ShapesModel = ShapesModel(shipped="shapes")
    models: tuple[str, ...] = ("well", "under")
    pool: Pool = Pool("small", 50, 32, 1536)
    methods: tuple[str, ...] = ()
    under: int = 3000

    def __post_init__(self) -> None:
        check_least(self, 1, "under")
        for name, known in (("models", ("well", "under")), ("methods", METHODS)):
            if unknown := set(getattr(self, name)) - set(known):
                raise InputError(f"{name}: unknown {min(unknown)!r}; choose from {', '.join(known)}")

    @property
    def visited(self) -> tuple[int, ...]:
        """The timesteps of the chain."""
        return self.pool.sampler.timesteps(self.shapes.noise.schedule)

    def trained(self, how: str) -> ShapesModel:
        """The model, well or under."""
        if how == "well":
            return self.shapes
        train: Training = replace(self.shapes.train, steps=self.under)
        return replace(self.shapes, shipped=self.shapes.shipped and f"shapes-{how}", train=train)


@dataclass(frozen=True)
class Treatment:
    """A method in one of its settings.

    Attributes:
        method: name of it.
        settings: in words.
        how: drawn, resample, repair, restart or stop.
        steps: of what is drawn by another chain, over those of the plain one.
        detector: of what is done with finished images.
        share: kept by a resampling, flagged by a repair, stopped on their way.
        level: where a restart begins: low or critical.
        passes: restarts; of a repair, of all images after it, from the low level.
        afresh: what no restart mends is drawn afresh.
    """

    method: str
    settings: str = ""
    how: str = "drawn"
    steps: float | None = None
    detector: str = ""
    share: float = 0.0
    level: str = ""
    passes: int = 0
    afresh: bool = False

    @property
    def key(self) -> str:
        """Its name among jobs."""
        words = f"{self.method} {self.settings}"
        return "".join(c if c.isalnum() or c in ".-" else "_" for c in words).strip("_")


def every() -> Iterator[Treatment]:
    """All, the undisturbed chain first."""
    yield Treatment(PLAIN)
    for method, words, times in (("fewer steps", "half", 0.5), ("more steps", "twice as many", 2.0)):
        yield Treatment(method, words, steps=times)
    for detector, where in WHERE.items():
        for kept in (0.9, 0.8, 0.6):
            words = f"{kept:.0%} kept, {where}"
            yield Treatment(f"resample by {detector}", words, "resample", detector=detector, share=kept)
    repairs = (
        *(("bias", 0.1, "low", 0), ("lid", 0.1, "critical", 0), ("lid", 0.2, "critical", 0)),
        *((DETAILS, 0.2, "critical", 0), (DETAILS, 0.4, "critical", 0)),
        *(("lid", 0.1, "critical", 1), ("lid", 0.1, "critical", 3), ("lid", 0.1, "critical", 6)),
    )
    for detector, flagged, level, passes in repairs:
        words = f"{flagged:.0%} flagged, {LEVELS[level]}" + (f"; {in_words(passes)}" if passes else "")
        how: dict[str, Any] = {"detector": detector, "share": flagged, "level": level, "passes": passes}
        more = ", then late restart" if passes else ""
        yield Treatment(f"selective repair by {detector}{more}", words, "repair", **how)
    for level, afresh in (("low", False), ("critical", False), ("low", True)):
        words = LEVELS[level] + (", else afresh" if afresh else "")
        yield Treatment(f"selective repair by {ORACLE}", words, "repair", detector=ORACLE, level=level, afresh=afresh)
    for passes in (1, 3):
        words = f"{LEVELS['low']}, {in_words(passes)}"
        yield Treatment("late restart", words, "restart", level="low", passes=passes)
    yield Treatment(
        "early stop by bias", "20% stopped where the critical window is over", "stop", detector="bias", share=0.2
    )


def in_words(passes: int) -> str:
    """A number of restarts, in words."""
    return f"{passes} pass{'es' if passes > 1 else ''}"


METHODS = tuple(dict.fromkeys(treatment.method for treatment in every()))


def treatments(images: Images) -> list[Treatment]:
    """That are measured."""
    asked = (PLAIN, *(images.methods or METHODS))
    return [treatment for treatment in every() if treatment.method in asked]


def jobs_of(images: Images, trained: str, seed: int) -> dict[str, Job]:
    """A model, a pool of its images, their labels and scores, and a job for each treatment."""
    key, pool = f"shapes-{trained}", images.pool
    model = model_job(f"model-{key}", images.trained(trained))
    timesteps, target = model.config.noise.timesteps, model.config.target
    hal: Any = make(HAL, Setting(model.config.shape, timesteps=timesteps))
    drawn = pool_job(f"{key}-pool", model, pool, seed, [hal])
    windows = windows_job(f"{key}-windows", model)
    looks = {"model": model, "windows": windows, "drawn": drawn}
    about = {"detectors": list(LOOKING), "seed": seed, "chunk": pool.chunk}
    scored = Job(f"{key}-scored", score_pool, about, looks)
    labels = Job(f"{key}-{PLAIN}", read_pool, {"target": target, "more": 0.0}, {"drawn": drawn, "plain": drawn})
    found = {job.name: job for job in (model, windows, drawn, scored, labels)}
    steps = len(images.visited)
    for treatment in treatments(images):
        name, own = f"{key}-{treatment.key}", {"detector": treatment.detector, "share": treatment.share}
        what = {"target": target, "sampler": pool.sampler, "seed": seed, "chunk": pool.chunk, "level": treatment.level}
        if treatment.how == "resample":
            given = {"drawn": drawn, "labels": labels, "scored": scored}
            found[name] = Job(name, resample, {**own, "steps": steps}, given)
        elif treatment.how == "repair":
            after = {"passes": treatment.passes} if treatment.passes else {}
            how = {**what, **own, **after, "afresh": treatment.afresh}
            found[name] = Job(name, mend, how, {**looks, "scored": scored})
        elif treatment.how == "restart":
            found[name] = Job(name, restart, {**what, "passes": treatment.passes}, looks)
        elif treatment.how == "stop":
            drawing = {"target": target, "pool": pool, "seed": seed}
            found[name] = Job(name, stop_early, {**drawing, **own}, {"model": model, "windows": windows})
        elif treatment.steps is not None:
            other = max(round(treatment.steps * steps), 1)
            more = pool_job(f"{name}-pool", model, replace(pool, steps=other), seed)
            read = {"target": target, "more": other / steps - 1}
            found[name] = Job(name, read_pool, read, {"drawn": more, "plain": drawn})
    return found


# what the oracle says


def portrait(rule: np.ndarray, counts: np.ndarray) -> dict[str, Any]:
    """Of images by the rule that decided (n,) and how many shapes of each kind (n, 3) they have."""
    rules, times = np.unique(rule, return_counts=True)
    good = rule == "in-support"
    return {
        "n": len(rule),
        "rules": {str(name): int(count) for name, count in zip(rules, times, strict=True)},
        "off": int((~good).sum()),
        "patterns": np.bincount((counts[good] > 0) @ (1, 2, 4), minlength=8)[1:].tolist(),
        "shapes": float(counts[good].sum(1).mean()) if good.any() else 0.0,
    }


def portraits(rule: np.ndarray, counts: np.ndarray, rows: np.ndarray | None = None) -> dict[str, Any]:
    """Of all images, and of two halves by their place in the pool, ``rows`` (n,) if some are left out."""
    half = choosing_half(len(rule) if rows is None else int(rows.max()) + 1)
    half = half if rows is None else half[rows]
    parts = {"all": slice(None), "choose": half, "judge": ~half}
    return {name: portrait(rule[part], counts[part]) for name, part in parts.items()}


def read_images(target: Any, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The rule that decided (n,), and the numbers of shapes of each kind (n, 3)."""
    labels: ShapeLabels = target.target.label(x)
    return np.asarray(labels.rule), np.asarray(labels.counts_by_kind)


def read_pool(running: Running) -> dict[str, Any]:
    """The portrait of images as they were drawn, and what that cost over drawing the plain ones."""
    drawn, plain = running.inputs["drawn"], running.inputs["plain"]
    x = pool_of(drawn).x
    rule, counts = read_images(running.config["target"], x)
    rules, which = np.unique(rule, return_inverse=True)
    tensors = {"rule": which, "counts": counts, WHITE: white(x).numpy()}
    running.save({name: torch.from_numpy(value) for name, value in tensors.items()})
    cost = {
        "more_evaluations": running.config["more"],
        "more_time": drawn.facts["seconds"] / plain.facts["seconds"] - 1,
    }
    return {**portraits(rule, counts), **cost, "named": rules.tolist()}


# what detectors say


def looking(running: Running, denoiser: Denoiser, name: str) -> SampleDetector:
    """A detector, in the windows that a job has found."""
    if name == ORACLE:
        return Oracle(running.config["target"].target)
    windows = windows_known(running.inputs["windows"], denoiser).windows
    if name == DETAILS:
        low, high = (t * len(denoiser.schedule) // 1000 for t in AROUND)
        return InWindows(CRITICAL["lid"], (Window(low, high), *windows), denoiser)
    found: SampleDetector = in_critical_windows(CRITICAL[name], denoiser, None)
    return found


def score_pool(running: Running) -> dict[str, Any]:
    """All detectors' scores of the pool, and what each costs: network evaluations, and seconds of the processor."""
    config, x = running.config, pool_of(running.inputs["drawn"]).x
    denoiser = denoiser_of(running.inputs["model"], running.device)
    scores, cost = {}, {}
    for name in config["detectors"]:
        detector = looking(running, denoiser, name)
        told: dict[str, Any] = {"seed": config["seed"], "chunk": config["chunk"], "device": running.device}
        _ = score(detector, denoiser, x[: config["chunk"]], **told)  # what it compares with is found now, once for all
        begin = time.process_time()
        found = score(detector, denoiser, x, progress=running.progress, **told)
        cost[name] = {"nfe": detector.nfe, "seconds": (time.process_time() - begin) / len(x)}
        scores[name] = torch.from_numpy(found)
    running.save(scores)
    return {"cost": cost, "evaluation_s": evaluation_seconds(denoiser)}


# what a mitigation makes of the pool


def resample(running: Running) -> dict[str, Any]:
    """Only the ``share`` of the images with the lowest scores is kept; the others are drawn again."""
    config, labels, scored = running.config, running.inputs["labels"], running.inputs["scored"]
    name, steps, nfe, seconds = config["detector"], config["steps"], 0, 0.0
    if name == HAL:
        scores = pool_of(running.inputs["drawn"]).scores[HAL]
    elif name == WHITE:
        scores = labels.tensors()[WHITE].numpy()
    else:
        scores, cost = scored.tensors()[name].numpy(), scored.facts["cost"][name]
        nfe, seconds = cost["nfe"], cost["seconds"] / scored.facts["evaluation_s"]
    known = labels.tensors()
    rule = np.asarray(labels.facts["named"])[known["rule"].numpy()]
    # so many exactly: where scores are equal, as of blank images, a threshold would keep all or none of them
    kept = np.sort(np.argsort(scores, kind="stable")[: max(round(config["share"] * len(scores)), 2)])
    share = len(kept) / len(scores)
    told = {"more_evaluations": (1 + nfe / steps) / share - 1, "more_time": (1 + seconds / steps) / share - 1}
    return {**portraits(rule[kept], known["counts"].numpy()[kept], kept), **told, "thrown_away": 1 - share}


def level_of(running: Running, denoiser: Denoiser, level: str) -> int:
    """The timestep at which restarts begin: the end of the critical window, or where details are decided."""
    if level == "critical":
        return windows_known(running.inputs["windows"], denoiser).windows[-1].high
    return max(LOW * len(denoiser.schedule) // 1000, 1)


def restarted(running: Running, denoiser: Denoiser, x: Tensor, k: int, passes: range) -> tuple[Tensor, int]:
    """Images restarted from k, in passes of these numbers, and the network evaluations that each asks for."""
    config, parts = running.config, []
    sampler, chunk, schedule = config["sampler"], config["chunk"], denoiser.schedule
    with running.progress.task("restarting", len(x), 0, "images") as task:
        for first in range(0, len(x), chunk):
            own = x[first : first + chunk].to(running.device)
            stream = NoiseStream(config["seed"], first, len(own), denoiser.shape, device=running.device)
            for number in passes:
                noise = stream.restarted(number)
                for step in sampler(denoiser, schedule.add_noise(own, noise(), k), noise, start=k):
                    own = step.x_next
            parts.append(own.cpu())
            task.advance(len(own))
    return torch.cat(parts), len(passes) * len(sampler.timesteps_from(schedule, k))


def mend(running: Running) -> dict[str, Any]:
    """The portrait of all images, those repaired that a detector flags; some before and after."""
    config, x = running.config, pool_of(running.inputs["drawn"]).x
    denoiser, name = denoiser_of(running.inputs["model"], running.device), running.config["detector"]
    flags = {"threshold": 0.5} if name == ORACLE else {"share": config["share"]}
    level = level_of(running, denoiser, config["level"])
    settings = Repair(**flags, level=level, tries=TRIES, replace=config["afresh"])
    scores = None if name == ORACLE else running.inputs["scored"].tensors()[name].numpy()
    begin = time.process_time()
    done = repair_all(
        denoiser,
        x,
        settings,
        detector=looking(running, denoiser, name),
        scores=scores,
        sampler=config["sampler"],
        condition={},
        seed=config["seed"],
        chunk=config["chunk"],
        progress=running.progress,
    )
    y, again = done.x, 0
    if passes := config.get("passes", 0):  # of other noise than the tries before
        numbers = range(TRIES + 1, TRIES + 1 + passes)
        y, again = restarted(running, denoiser, y, level_of(running, denoiser, "low"), numbers)
    taken = (time.process_time() - begin) / evaluation_seconds(denoiser)
    if scores is not None:  # they were found before
        taken += len(x) * running.inputs["scored"].facts["cost"][name]["seconds"] / evaluation_seconds(denoiser)
    chains = len(x) * done.chain
    rule, counts = read_images(config["target"], y)
    rows = np.flatnonzero(done.mended)[:SHOWN]
    shown = {"rows": rows, "before": x[rows].numpy(), "after": y[rows].numpy()}
    running.save({key: torch.from_numpy(value) for key, value in shown.items()})
    return {
        **portraits(rule, counts),
        "more_evaluations": (done.evaluations + done.scoring) / chains + again / done.chain,
        "restarts": done.evaluations / chains + again / done.chain,
        "more_time": taken / chains,
        "touched": float(done.touched.mean()),
        "given_up": float(done.given_up.mean()),
    }


def restart(running: Running) -> dict[str, Any]:
    """The portrait of images that are all restarted."""
    config, x = running.config, pool_of(running.inputs["drawn"]).x
    denoiser = denoiser_of(running.inputs["model"], running.device)
    k, begin = level_of(running, denoiser, config["level"]), time.process_time()
    y, asked = restarted(running, denoiser, x, k, range(1, config["passes"] + 1))
    taken = (time.process_time() - begin) / evaluation_seconds(denoiser) / len(x)
    chain = len(config["sampler"].timesteps(denoiser.schedule))
    cost = {"more_evaluations": asked / chain, "more_time": taken / chain}
    return {**portraits(*read_images(config["target"], y)), **cost, "level": k}


def stop_early(running: Running) -> dict[str, Any]:
    """The portrait of images some of whose chains were dropped on their way, and others begun."""
    config, denoiser = running.config, denoiser_of(running.inputs["model"], running.device)
    pool: Pool = config["pool"]
    windows_known(running.inputs["windows"], denoiser)
    asked = EarlyStop(CRITICAL[config["detector"]], share=config["share"])
    begin = time.process_time()
    stop = asked.ready(denoiser, pool.sampler, {}, running.progress)
    plan = pool.plan(denoiser.shape, config["seed"], running.device)
    done: Any = Drawing(denoiser, pool.sampler, plan, (), {}, {}, 1, None, running.progress, stop).all()
    taken = (time.process_time() - begin) / evaluation_seconds(denoiser) / len(done)
    more = (done.evaluations + done.scoring) / (len(done) * done.chain)
    told = {"t": stop.at, "stopped": float(done.stopped.mean()), "vain": float((~done.passed).mean())}
    cost = {"more_evaluations": more, "more_time": taken / done.chain - 1}
    return {**portraits(*read_images(config["target"], done.x)), **cost, **told}


# what was found


@dataclass(frozen=True)
class Outcome:
    """What a treatment makes of a model's images.

    Attributes:
        treatment: which.
        counts: off the support and all, before and after.
        kinds: of what is off the support, their shares after.
        divergence: Kullback-Leibler, of the patterns' weights from those before.
        shapes: mean number of them, on the support.
        change: of that number, relative.
        cost: more_evaluations, more_time, thrown_away.
    """

    treatment: Treatment
    counts: tuple[tuple[int, int], tuple[int, int]]
    kinds: dict[str, Estimate]
    divergence: float
    shapes: float
    change: float
    cost: dict[str, float]

    @property
    def before(self) -> Estimate:
        return share(*self.counts[0])

    @property
    def after(self) -> Estimate:
        return share(*self.counts[1])

    @property
    def ratio(self) -> Estimate:
        """Before over after."""
        return ratio_of_shares(*self.counts)

    @property
    def keeps(self) -> bool:
        """What is in the images."""
        return abs(self.change) <= CONTENT


def outcome(found: Found, how: str, treatment: Treatment, part: Part = "all") -> Outcome:
    """Of all images, or of a half of them."""
    facts, plain = found[f"shapes-{how}-{treatment.key}"].facts, found[f"shapes-{how}-{PLAIN}"].facts
    here, there = facts[part], plain[part]
    # half a count more for each, so that a pattern that is missing has a logarithm
    weights = [(np.array(each["patterns"]) + 0.5) / (sum(each["patterns"]) + 3.5) for each in (here, there)]
    return Outcome(
        treatment,
        ((there["off"], there["n"]), (here["off"], here["n"])),
        {kind: share(here["rules"].get(kind, 0), here["n"]) for kind in KINDS},
        divergence(*weights),
        here["shapes"],
        here["shapes"] / there["shapes"] - 1 if there["shapes"] else 0.0,
        {name: round(facts.get(name, 0.0), 9) for name in ("more_evaluations", "more_time", "thrown_away")},
    )


def outcomes(images: Images, found: Found, how: str, part: Part = "all") -> dict[str, Outcome]:
    """Of all treatments that are there, by their keys."""
    seen = {}
    for treatment in treatments(images):
        try:
            seen[treatment.key] = outcome(found, how, treatment, part)
        except Missing:
            continue
    return seen


def chosen(seen: Iterable[Outcome]) -> dict[str, Outcome]:
    """Of each method the settings that leave least off the support, if some keep the content among those; the best
    method first."""
    best: dict[str, Outcome] = {}
    for each in sorted(seen, key=lambda one: (not one.keeps, one.after.value)):
        best.setdefault(each.treatment.method, each)
    return best


def measure(images: Images, found: Found, measured: Measured) -> None:
    """A row for each method on each model; settings are chosen on half of the first one's images."""
    tuned: dict[str, Outcome] = {}
    for how in images.models:
        here = how == images.models[0]
        if here:
            tuned = chosen(outcomes(images, found, how, "choose").values())
        seen, judge = outcomes(images, found, how), outcomes(images, found, how, "judge")
        several = {method: sum(t.method == method for t in treatments(images)) > 1 for method in tuned}
        rows = []
        for method, setting in tuned.items():
            key, judged = setting.treatment.key, several[method] and here
            where = ("here" if here else "on another model") if several[method] else "no"
            if key in seen:
                rows.append(row_of(images, how, (judge if judged else seen)[key], where))
        measured.rows += sorted(rows, key=lambda row: row["after"])
        measured.series[f"shapes-{how}"] = [point_of(each) for each in seen.values()]
        measured.values |= values_of("shapes" if how == "well" else f"shapes_{how}", tuned, judge if here else seen)
        if missing := len(treatments(images)) - len(seen):
            measured.notes.append(f"shapes-{how}: {missing} settings are not measured yet.")
        tell(images, found, how, measured)


def tell(images: Images, found: Found, how: str, measured: Measured) -> None:
    """What the model draws off the support, and what its windows cost."""
    with suppress(Missing):
        plain = found[f"shapes-{how}-{PLAIN}"].facts["all"]
        made = ", ".join(f"{plain['rules'].get(kind, 0)} {kind.replace('-', ' ')}" for kind in KINDS)
        measured.notes.append(f"shapes-{how}: off the support, of {plain['n']:,} images: {made}.")
    with suppress(Missing):
        facts = found[f"shapes-{how}-windows"].facts
        listed = ", ".join("{low}..{high}".format(**rise["window"]) for rise in facts["rises"])
        share_of = facts["evaluations"] / images.pool.n / len(images.visited)
        measured.notes.append(
            f"shapes-{how}: critical windows t = {listed}, found once without labels for {facts['evaluations']:,} "
            f"network evaluations, {share_of:.0%} of those that drew the images; no row counts them."
        )


def row_of(images: Images, how: str, seen: Outcome, tuned: str) -> dict[str, Any]:
    """As it stands in the table."""
    row: dict[str, Any] = {
        "target": images.shapes.target.words,
        "model": how,
        "method": seen.treatment.method,
        "settings": seen.treatment.settings,
        "tuned": tuned,
        "measured": f"{seen.counts[1][1]:,} images",
    }
    named = {"before": seen.before, "after": seen.after, "ratio": seen.ratio}
    for name, each in (named | {kind.replace("-", "_"): each for kind, each in seen.kinds.items()}).items():
        row.update(zip((name, f"{name}_low", f"{name}_high"), each.triple, strict=True))
    return {**row, "divergence": seen.divergence, "shapes": seen.shapes, "shapes_change": seen.change, **seen.cost}


def point_of(seen: Outcome) -> dict[str, Any]:
    """As it stands in the figure."""
    told = {"method": seen.treatment.method, "settings": seen.treatment.settings, "off_support": seen.after.triple}
    return {**told, "shapes_change": seen.change, "keeps": seen.keeps, **seen.cost}


def values_of(name: str, tuned: Mapping[str, Outcome], judge: Mapping[str, Outcome]) -> dict[str, Any]:
    """The repair by the best detector that is free of labels, that by the oracle, and drawing again at equal compute.

    Args:
        name: of the model among values.
        tuned: of each method the settings, on the images that chose them, the best first.
        judge: all settings, on other images.
    """
    ready = [each for each in tuned.values() if each.treatment.key in judge]
    repairs = [each for each in ready if each.treatment.how == "repair"]
    values: dict[str, Any] = {}
    by_oracle = [each for each in repairs if each.treatment.detector == ORACLE]
    if by_oracle:
        values[f"repair_{name}_oracle_ratio"] = judge[by_oracle[0].treatment.key].ratio
    free = [each for each in repairs if each.treatment.detector in FREE_OF_LABELS]
    if not free:
        return values
    best = judge[free[0].treatment.key]
    more = best.cost["more_evaluations"]
    values |= {
        f"repair_{name}_ratio": best.ratio,
        f"repair_{name}_evaluations": more,
        f"repair_{name}_shapes_change": best.change,
    }
    again = [each for each in ready if each.treatment.how == "resample" and each.treatment.detector in FREE_OF_LABELS]
    cheap = [each for each in again if each.cost["more_evaluations"] <= more]
    if cheap:
        rival = judge[cheap[0].treatment.key]
        values |= {
            f"resample_{name}_ratio": rival.ratio,
            f"resample_{name}_evaluations": rival.cost["more_evaluations"],
            f"resample_{name}_shapes_change": rival.change,
        }
    return values


def claims(images: Images) -> list[Claim]:
    if "well" not in images.models:
        return []
    words = (
        "shapes: selective repair by the best detector that is free of labels, in windows found without them, leaves "
        f"at least {LEAST} times fewer images off the support"
    )
    return [Claim("shapes-repair", "repair_shapes_ratio", at_least(LEAST), words, "–")]


def repaired(images: Images, found: Found, measured: Measured, path: Path) -> str | None:
    """Of the well-trained model, what the best repair mended, before and after."""
    tuned = chosen(outcomes(images, found, "well", "choose").values()) if "well" in images.models else {}
    free = [e for e in tuned.values() if e.treatment.how == "repair" and e.treatment.detector in FREE_OF_LABELS]
    if not free:
        return None
    best = free[0].treatment
    tensors = found[f"shapes-well-{best.key}"].tensors()
    target = images.shapes.target.target
    before, after = (tensors[name][:, 0].numpy() for name in ("before", "after"))
    if not len(before):
        return None
    panels: list[Any] = []
    for title, x in (("flagged", before), ("after the repair", after)):
        labels = target.label(x)
        boxes = [[(o.row, o.column, o.height, o.width) for o in objects if o.wrong] for objects in labels.objects]
        panels.append((title, x, boxes, [str(rule) for rule in labels.rule]))
    plots.image_panels(path, panels, columns=6)
    return f"The first images that {best.method} ({best.settings}) has mended, as they were and as they are."
