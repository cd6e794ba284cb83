"""Hallucination in images: a model of Simple Shapes draws two of a kind (paper: sections 1.1, 5, 6 and A.2; Figs. 1,
6c, 14-16).

Train a U-Net on 5,000 images (or take the shipped model), sample, and let the oracle of
:mod:`intermode.targets.shapes` read every image. Two labels are reported: the paper's, two or more shapes of one
kind, and the stricter one, anything that is off the support. Hal is judged against both, at the paper's window
t = 700..850 and at others; the best window is chosen on half of the samples and judged on the other half. What is off
the support is counted by kind: an image whose shape lies half way between two neighbouring places is interpolation
between nearest modes and perfect to the eye.

What a score sees, the error or the amount of what is in an image, is asked of the finished images
(:mod:`intermode.studies.image_scores`): of those with two of a kind, and of those with a deformed shape. Another model
may be the auditor.

The control is the ideal denoiser of :mod:`intermode.targets.shape_denoiser`, sampled in the same way: a perfect model,
whose images are all on the support and whose Hal is not zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from intermode import plots
from intermode.denoisers import Denoiser
from intermode.detect.white import white
from intermode.errors import InputError
from intermode.evaluation import Estimate, detection, matched, share
from intermode.jobs import Job, Running
from intermode.sampling import predictions
from intermode.studies.image_scores import FEWEST, PARTS, Judgement, Truth, families, judge, look_job, trivial
from intermode.study import Claim, Found, Measured, Picture, Study, at_least, below
from intermode.study.configs import LocalShapesModel, Pool, ShapesModel, check_least
from intermode.study.hal import Judged, compare, detection_values, draw_hal, first, loss_picture, windows_picture
from intermode.study.steps import label_job, labelled, model_job, pool_job, pool_of, sampled, windows_job
from intermode.targets.shape_oracle import ShapeLabels
from intermode.targets.shape_support import KINDS, SIZE

__all__ = ["STUDY", "WORDS", "Config", "boxes_of", "made_of"]

PAPER_REMOVED = 0.95
"""Share of the hallucinations that the paper removes when it keeps 95 % of the in-support samples (section 5.2)."""
WINDOWS = (
    *((0, 20), (0, 50), (0, 100), (50, 150), (100, 200), (100, 300), (200, 400), (300, 500), (400, 600)),
    *((500, 700), (600, 800), (700, 850), (750, 900), (850, 950), (100, 700), (400, 850)),
)
"""Windows that are compared, as thousandths of T."""
FRAMES = 12
"""Images of a film strip."""
SHOWN, LARGE = 24, 12
"""Images of a panel, and of one of large images."""
WORDS = {
    "duplicate": "with two of a kind",
    "deformed": "deformed",
    "between-places": "with a shape half way between two places",
    "wrong-column": "with a shape in a wrong column",
    "blank": "blank",
    "diverged": "diverged",
}
"""The kinds of error in words, by the oracle's rule."""


WHO = {"own": "", "audit": ", by the auditor"}
"""Which model is asked for a score, in names of values and of scores."""


@dataclass(frozen=True)
class Config(Judged):
    """Settings of ``shapes``; training the model instead of taking the shipped one takes an hour on two cores.

    Attributes:
        ideal: images of the ideal denoiser, drawn as the pool is.
        auditor: another model that scores the images, too.
        scored: finished images with two of a kind that are scored, at most, and twice as many others.
        levels: timesteps that they are re-noised to, as thousandths of T ...
        noises: ... and how often to each.
    """

    model: ShapesModel = ShapesModel(shipped="shapes")
    pool: Pool = Pool("small", 250, 32, 1024)
    window: tuple[int, int] = (700, 850)
    ideal: int = 1000
    auditor: ShapesModel | None = None
    scored: int = 250
    levels: tuple[int, ...] = (50, 100, 200, 400, 600, 700, 750, 800, 850, 900, 950)
    noises: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, 1, "ideal", "scored", "noises")
        if not self.levels or not all(0 < level < 1000 for level in self.levels):
            raise InputError(f"levels: {self.levels} must be thousandths of T, 1..999, at least one")

    @property
    def timesteps(self) -> tuple[int, ...]:
        """The levels on this T."""
        return tuple(dict.fromkeys(level * self.model.noise.timesteps // 1000 for level in self.levels))

    @property
    def windows(self) -> list[tuple[int, int]]:
        """The windows compared, on this T; those that hold two visited timesteps."""
        scaled = [tuple(end * self.model.noise.timesteps // 1000 for end in window) for window in WINDOWS]
        return [(low, high) for low, high in scaled if sum(low <= t <= high for t in self.visited) >= 2]


class Label(NamedTuple):
    """A label that Hal is judged against.

    Attributes:
        id: begins the ids of its claims and the names of its figures.
        prefix: begins the names of its measures.
        meaning: in words.
        of: name in :class:`intermode.targets.shape_oracle.ShapeLabels`.
    """

    id: str
    prefix: str
    meaning: str
    of: str


LABELS = (
    Label("duplicates", "", "with two of a kind", "duplicate"),
    Label("off-support", "off_support_", "that are off the support", "hallucinated"),
)


def jobs(config: Config) -> dict[str, Job]:
    model = model_job("model", config.model)
    pool = pool_job("pool", model, config.pool, config.seed, config.detectors(config.windows))
    drawn = {"pool": config.pool, "seed": config.seed, "target": config.model.target}
    strips = Job("film-strips", follow, drawn, {"model": model, "pool": pool})
    control = config.pool.of(config.ideal)
    ideal = pool_job("ideal", config.model, control, config.seed, config.detectors(()))
    strip = Job("ideal-strip", follow_ideal, {**drawn, "pool": control, "noise": config.model.noise}, {"pool": ideal})
    labels = label_job("labels", pool, config.model.target)
    how = config.model.target, config.timesteps, config.noises, config.seed, config.scored
    found: dict[str, Job] = {}
    for who, asked in {"own": model, **audited(config)}.items():
        windows = found[f"{who}-windows"] = windows_job(f"{who}-windows", asked)
        found[who] = look_job(f"{who}-look", asked, windows, pool, *how)
    of_model = {"model": model, "pool": pool, "labels": labels, "film-strips": strips, **found}
    return {**of_model, "ideal": ideal, "ideal-strip": strip}


def audited(config: Config) -> dict[str, Job]:
    """The auditor, if there is one."""
    return {} if config.auditor is None else {"audit": model_job("auditor", config.auditor)}


def labels_of(config: Config, found: Found, pool: str = "pool") -> ShapeLabels:
    """What the oracle says of a pool; it reads about a thousand images a second."""
    labels: ShapeLabels = labelled(found[pool], config.model.target)
    return labels


def follow(running: Running) -> dict[str, Any]:
    """x0_hat of a hallucinated and of an in-support sample of the same chunk, which is drawn again."""
    pool, labels = running.config["pool"], labelled(running.inputs["pool"], running.config["target"])
    fine = ~pool_of(running.inputs["pool"]).diverged
    wrong = first(labels.duplicate & fine, 1) or first(labels.hallucinated & fine, 1)
    if not wrong:
        return {"rows": []}
    chunk = np.arange(pool.n) // pool.chunk == wrong[0] // pool.chunk
    rows = [*wrong, *first(chunk & ~labels.hallucinated & (labels.counts_by_kind.sum(1) > 1), 1)]
    return film(running, sampled(running.inputs["model"], running.device), rows)


def follow_ideal(running: Running) -> dict[str, Any]:
    """x0_hat of the ideal denoiser's first image of more than one shape."""
    target, schedule = running.config["target"], running.config["noise"].schedule
    labels = labelled(running.inputs["pool"], target)
    return film(running, target.target.denoiser(schedule), first(labels.counts_by_kind.sum(1) > 1, 1))


def film(running: Running, denoiser: Denoiser, rows: list[int]) -> dict[str, Any]:
    """x0_hat of some images of a pool, which are drawn again."""
    if not rows:
        return {"rows": []}
    pool = running.config["pool"]
    plan = pool.plan(denoiser.shape, running.config["seed"], running.device)
    timesteps, x0_hat = predictions(denoiser, pool.sampler, plan, rows, len(denoiser.schedule))
    # dense where shapes are decided, from the middle of the chain on
    frames = np.unique(np.linspace(len(timesteps) // 20, len(timesteps) - 1, FRAMES).round().astype(int))
    shown = {"timesteps": timesteps[frames], "x0_hat": x0_hat[frames][:, :, 0]}
    running.save({key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in shown.items()})
    return {"rows": rows}


def made_of(counts: Mapping[str, int]) -> str:
    """What images off the support are, in words, from how many each rule of the oracle rejects."""
    return ", ".join(f"{counts[rule]} {words}" for rule, words in WORDS.items() if counts.get(rule))


def rates(config: Config, found: Found) -> Measured:
    """The rate at both labels, and of each kind of error."""
    pool, labels = pool_of(found["pool"]), labels_of(config, found)
    counts, good = labels.counts(), ~labels.hallucinated
    between = labels.weight.max(1)
    others = ("deformed", "between-places", "wrong-column", "blank")
    apart = {f"{rule.replace('-', '_')}_rate": share(counts.get(rule, 0), config.pool.n) for rule in others}
    measured = Measured(
        {
            "samples": config.pool.n,
            "diverged": int(pool.diverged.sum()),
            "images_per_second": config.pool.n / pool.seconds,
            "training_seconds": found["model"].facts["train_s"],
            "two_of_a_kind": share(int(labels.duplicate.sum()), config.pool.n),
            "off_support_rate": share(int(labels.hallucinated.sum()), config.pool.n),
            "hallucinated": int(labels.duplicate.sum()),
            **apart,
        },
        {
            "rules": [[rule, count] for rule, count in counts.items()],
            "shapes_per_image": {
                kind: np.bincount(each, minlength=4).tolist()
                for kind, each in zip(KINDS, labels.counts_by_kind.T, strict=True)
            },
        },
    )
    if labels.hallucinated.any():
        measured.notes.append(f"Off the support, of {config.pool.n} images: {made_of(counts)}.")
    if labels.between_places.any() and good.any():
        measured.values |= {
            "between_places_weight": float(np.median(between[labels.between_places])),
            "in_support_between_rate": share(int((between > 0)[good].sum()), int(good.sum())),
        }
    return measured


def control(config: Config, found: Found) -> Measured:
    """What the oracle and Hal say of the ideal denoiser's images."""
    hal, labels = pool_of(found["ideal"]).scores["hal"], labels_of(config, found, "ideal")
    shapes, target = labels.counts_by_kind.sum(1), config.model.target.target
    medians = [[int(n), float(np.median(hal[shapes == n]))] for n in np.unique(shapes)]
    listed = ", ".join(f"{median:.2g} with {n}" for n, median in medians)
    drawn = f"In {len(config.visited)} steps it draws {shapes.mean():.2f} shapes an image"
    return Measured(
        {
            "true_score_off_support": share(int(labels.hallucinated.sum()), config.ideal),
            "true_score_hal_median": float(np.median(hal)),
            "true_score_mean_shapes": float(shapes.mean()),
            "data_mean_shapes": len(KINDS) * target.presence,
        },
        {"true_score_hal_by_shapes": medians},
        [
            f"A perfect model has Hal, too: its median is {listed} shapes. {drawn}, and the data has "
            f"{len(KINDS) * target.presence:.2f}."
        ],
    )


def hal(config: Config, found: Found) -> Measured:
    """Hal against both labels."""
    scores, labels, measured = pool_of(found["pool"]).scores, labels_of(config, found), Measured()
    for label in LABELS:
        measured.add(against(label, scores, getattr(labels, label.of), config.seed))
    return measured


def against(label: Label, scores: Any, bad: np.ndarray, seed: int) -> Measured:
    """Hal against one label."""
    prefix = label.prefix
    claimed = (f"{prefix}hal_paper_window_removed_at_95_kept", f"{prefix}hal_best_removed_at_95_kept")
    measured = Measured(dict.fromkeys(claimed))
    if min(bad.sum(), (~bad).sum()) < FEWEST:
        measured.notes.append(
            f"Images {label.meaning}: {int(bad.sum())} of {len(bad)}: too few, of these or of others, to judge a "
            "detector."
        )
        return measured
    measured.values |= detection_values(detection(scores["hal"], bad, seed=seed), f"{prefix}hal_paper_window")
    windows = compare(scores, bad, seed, "auroc")
    if windows is not None:
        best = windows.judged[windows.best]
        measured.series[f"{prefix}windows"] = windows.rows
        measured.values |= {
            f"{prefix}hal_best_window_low": windows.best[0],
            f"{prefix}hal_best_window_high": windows.best[1],
            f"{prefix}hal_best_auroc": best.auroc,
            f"{prefix}hal_best_removed_at_95_kept": best.removed_at_95_kept,
        }
    return measured


def content(config: Config, found: Found) -> Measured:
    """Every score of the finished images, and what is left of it at matched content."""
    labels, rows = labels_of(config, found), found["own"].tensors()["rows"].numpy()
    pool, shapes = pool_of(found["pool"]), np.asarray(labels.counts_by_kind).sum(1)
    whites, scores = white(pool.x[rows]).numpy(), [*trivial(pool.x[rows], config.seed)]
    windows = {name.removeprefix("hal-"): pool.scores[name][rows] for name in sorted(pool.scores) if name != "hal"}
    scores += [("hal, the paper's window", {"": pool.scores["hal"][rows]}), ("hal, best window", windows)]
    looks = {who: families(found[who], config.timesteps) for who in ("own", *audited(config))}
    scores += [(name + WHO[who], by_setting) for who, look in looks.items() for name, by_setting in look.items()]
    claimed = (claim.measure for claim in claims(config) if claim.measure.endswith("matched_auroc"))
    measured = Measured({**dict.fromkeys(claimed), "positives": int(labels.duplicate.sum())})
    for kind, bad in (("two of a kind", labels.duplicate), ("deformed", labels.rule == "deformed")):
        truth = Truth(np.asarray(bad)[rows], ~np.asarray(labels.hallucinated)[rows], shapes[rows], whites)
        seen = [judge(name, by_setting, truth, config.seed) for name, by_setting in scores]
        judgements = {each.score: each for each in seen if each is not None}
        about = {"target": kind, "model": config.model.words}
        measured.rows += [{**about, **each.row} for each in judgements.values()]
        if len(judgements) < len(scores):
            lacking = f"{int(truth.bad.sum())} images {kind} and {int(truth.good.sum())} good ones"
            measured.notes.append(f"Scores that are not judged of {kind}: {lacking} are too few.")
        if kind == "two of a kind" and judgements:
            measured.values |= headline(judgements)
    curves = {part + WHO[who]: look[part] for who, look in looks.items() for part in PARTS}
    bad, good = np.asarray(labels.duplicate)[rows], ~np.asarray(labels.hallucinated)[rows]
    use = bad | good
    measured.series["matched_by_level"] = [
        {
            "t": t,
            **{name: triple(matched(at[f"t = {t}"][use], bad[use], shapes[rows][use])) for name, at in curves.items()},
        }
        for t in config.timesteps
    ]
    return measured


def triple(estimate: Estimate | None) -> list[float] | None:
    """As JSON."""
    return None if estimate is None else list(estimate.triple)


def headline(judgements: Mapping[str, Judgement]) -> dict[str, Any]:
    """What is told of two of a kind."""
    found: dict[str, Any] = {}
    for name, score in (("hal_paper", "hal, the paper's window"), ("hal", "hal, best window"), ("white", "white")):
        if score in judgements:
            found[f"{name}_auroc_finished"] = judgements[score].against_good
            found[f"{name}_matched_auroc"] = judgements[score].at_equal_shapes
    if "white" in judgements:
        found["white_auroc"] = judgements["white"].against_all
    known = {each.score: each.at_equal_shapes for each in judgements.values() if each.at_equal_shapes is not None}
    if known:
        best = max(known, key=lambda score: known[score].value)
        found |= {f"{who}_critical_matched_auroc": known.get(f"lid, critical window{by}") for who, by in WHO.items()}
        found |= {"best_detector": best, "best_matched_auroc": known[best]}
        found["best_matched_removed_at_95_kept"] = judgements[best].removed
    return found


def claims(config: Config) -> list[Claim]:
    places = {
        "paper": ("hal_paper_window", "t = {}..{}, all samples".format(*config.window)),
        "best": ("hal_best", "at the best window, chosen on the other half of the samples"),
    }
    two = "The model draws two or more shapes of one kind, which the data never has: share of samples, at least 1 %"
    found = [Claim("hallucinates", "two_of_a_kind", at_least(0.01), two, "about 5 % (section 6)")]
    for label in LABELS:
        hal = f"Hal removes 95 % of the samples {label.meaning} and keeps 95 % of the others"
        for word, (name, where) in places.items():
            measure, bound = f"{label.prefix}{name}_removed_at_95_kept", at_least(PAPER_REMOVED)
            found.append(Claim(f"{label.id}-{word}", measure, bound, f"{hal} ({where})", "95 % removed (section 5.2)"))
    none = "The ideal denoiser, sampled in the same way, draws nothing off the support: share of samples, under 0.5 %"
    found.append(Claim("true-score", "true_score_off_support", below(0.005), none, "–"))
    equal = "tells two of a kind from good images with as many shapes: AUROC, at least"
    more = "Hal of the chain, at the paper's window,"
    found.append(Claim("hal-matched", "hal_paper_matched_auroc", at_least(0.75), f"{more} {equal} 0.75", "–"))
    for who, model in (("own", "that drew the images"), ("audit", "that sees the whole image")):
        if who == "own" or config.auditor is not None:
            said = f"The residual of re-noisings (lid) in the critical window of the model {model} {equal} 0.9"
            found.append(Claim(f"{who}-matched", f"{who}_critical_matched_auroc", at_least(0.9), said, "–"))
    return found


def boxes_of(labels: ShapeLabels, row: int) -> list[plots.Box]:
    """Around what is wrong with an image: all of it, if it is blank."""
    if np.asarray(labels.rule)[row] == "blank":
        return [(2, 2, SIZE - 4, SIZE - 4)]
    return [(o.row, o.column, o.height, o.width) for o in labels.objects[row] if o.wrong]


def boxed(config: Config, found: Found, rows: list[int]) -> tuple[np.ndarray, list[list[plots.Box]]]:
    """The images of these rows, and what is wrong with each."""
    labels = labels_of(config, found)
    return pool_of(found["pool"]).x[rows, 0].numpy(), [boxes_of(labels, row) for row in rows]


def samples(config: Config, found: Found, measured: Measured, path: Path) -> str:
    real = config.model.target.target.sample(SHOWN, config.seed + 1)[:, 0].numpy()
    images, boxes = boxed(config, found, list(range(min(SHOWN, config.pool.n))))
    plots.image_panels(
        path, [("training data", real, [()] * len(real), []), ("generated", images, boxes, [])], columns=6
    )
    return "Images of the data and the first generated ones, framed where something is wrong. Compare Fig. 1."


def hallucinated(config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    """Images of two of a kind, large; where there are none, whatever else is off the support."""
    labels, fine = labels_of(config, found), ~pool_of(found["pool"]).diverged
    counts = labels.counts()
    rows = first(labels.duplicate & fine, LARGE)
    if not rows:
        told = errors(config, found, path)
        return told and f"{told} Off the support, of {config.pool.n} are {made_of(counts)}."
    title = f"{int(labels.duplicate.sum())} of {config.pool.n} images show two or more of a kind"
    plots.image_panels(path, [(title, *boxed(config, found, rows), [])], columns=4, cell=1.5)
    return (
        "The first images with two or more of a kind, which the data never has. Off the support, of "
        f"{config.pool.n} are {made_of(counts)}. Boxes are around what is wrong. Compare Fig. 14."
    )


def others(config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    """What else is off the support, beside images of two of a kind."""
    return errors(config, found, path) if labels_of(config, found).duplicate.any() else None


def errors(config: Config, found: Found, path: Path) -> str | None:
    """Images that are off the support without two of a kind, kind by kind."""
    labels, fine = labels_of(config, found), ~pool_of(found["pool"]).diverged
    counts = labels.counts()
    kinds = [rule for rule in WORDS if counts.get(rule) and rule not in ("diverged", "duplicate")]
    if not kinds:
        return None
    panels: list[Any] = []
    for rule in kinds:
        rows = first((labels.rule == rule) & fine, SHOWN // len(kinds))
        panels.append((f"{counts[rule]} of {config.pool.n}: {rule}", *boxed(config, found, rows), []))
    plots.image_panels(path, panels, columns=2 if len(kinds) > 2 else 4, cell=0.9)
    return "Images off the support that show no two of a kind, the first of each kind. Boxes are around what is wrong."


def film_strips(config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    rows = found["film-strips"].facts["rows"]
    if not rows:
        return None
    tensors = found["film-strips"].tensors()
    _, boxes = boxed(config, found, rows)
    titles = ["hallucinated", "in-support"]
    strips = [(titles[k], tensors["x0_hat"][:, k].numpy(), boxes[k]) for k in range(len(rows))]
    if found["ideal-strip"].facts["rows"]:
        strips.append(("ideal denoiser", found["ideal-strip"].tensors()["x0_hat"][:, 0].numpy(), []))
    plots.film_strips(path, tensors["timesteps"].tolist(), strips, config.window)
    return (
        f"Predicted x0 along the trajectory, the finished image at the right, and of another image the exact one, "
        f"E[x0 | x_t]; timesteps of the window t = "
        f"{config.window[0]}..{config.window[1]} in bold. Compare Figs. 15 and 16."
    )


def histogram(label: Label, whose: str, config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    ends: Any = [measured.values.get(f"{label.prefix}hal_best_window_{end}") for end in ("low", "high")]
    name, window = ("hal", config.window) if whose == "paper" else ("hal-{}-{}".format(*ends), ends)
    if None in window or f"{label.prefix}hal_paper_window_auroc" not in measured.values:
        return None
    draw_hal(path, pool_of(found["pool"]).scores[name], getattr(labels_of(config, found), label.of), window, 0.95, 0.95)
    where = "the paper's window" if whose == "paper" else "the best window"
    return f"Hal of samples {label.meaning} and of all others, at {where}. Compare Fig. 6c."


def by_level(config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    rows = measured.series.get("matched_by_level", [])
    shown = [part + WHO[who] for who in ("own", *audited(config)) for part in ("bias", "hal")]
    lines: Any = {
        name: tuple(zip(*(row[name] for row in rows), strict=True)) for name in shown if all(row[name] for row in rows)
    }
    if not rows or not lines:
        return None
    t, highest = [row["t"] for row in rows], {name: max(line[0]) for name, line in lines.items()}
    best = max(highest, key=highest.__getitem__)
    title = f"{best}: highest at t = {t[lines[best][0].index(highest[best])]}, {highest[best]:.3g}"
    label = "AUROC at equal number of shapes"
    plots.curves(path, t, lines, x_label="re-noised to timestep $t$", y_label=label, title=title)
    asked = "by the model that drew them" if config.auditor is None else "by the model that drew them and by another"
    return f"Two of a kind against good images with as many shapes, {asked}, re-noised to t. 95 % intervals."


def pictures(config: Config) -> list[Picture]:
    found = [
        Picture("samples", samples),
        Picture("hallucinated", hallucinated),
        Picture("other-errors", others),
        Picture("film-strips", film_strips),
    ]
    for label in LABELS:
        what = f"Detection of samples {label.meaning} against Hal's window (first timestep above the last)"
        found.append(windows_picture(f"{label.id}-windows", f"{label.prefix}windows", f"{what}, 95 % intervals."))
        found += [Picture(f"{label.id}-hal-{whose}", partial(histogram, label, whose)) for whose in ("paper", "best")]
    return [*found, Picture("matched-by-level", by_level), loss_picture]


# fmt: off
STUDY = Study(
    "shapes",
    figures="Figs. 1, 6c, 14-16",
    summary="A U-Net draws two shapes of a kind, which its data never has; an exact oracle and Hal find them",
    tiers={
        "smoke": {
            "model.shipped": None, "model.size": 64, "model.noise.timesteps": 40, "model.network.patch": 8,
            "model.network.channels": (32,), "model.network.attention": (), "model.train.steps": 20,
            "model.train.batch": 8, "pool.steps": 20, "pool.n": 24, "pool.chunk": 8, "window": (28, 34), "ideal": 16,
            "levels": (200, 800), "noises": 2,
        },
        "quick": {},
        "long": {
            "model": LocalShapesModel(shipped="shapes-local"), "auditor": ShapesModel(shipped="shapes"),
            "pool.steps": 50, "pool.n": 12_000, "scored": 1500,
        },
        "paper": {
            "model.shipped": None, "model.network.patch": 1, "model.network.channels": (128, 256, 384, 512),
            "model.network.layers": 3, "model.network.attention": (1, 2, 3), "model.train.steps": 100_000,
            "model.train.batch": 64, "model.train.learning_rate": 1e-4, "model.train.ema": 0.9999,
            "model.train.precision": "bf16", "model.train.compile": True, "pool.n": 7500, "pool.chunk": 500,
        },
    },
    times={"smoke": "10 s", "quick": "12 min", "long": "~2 h", "paper": "~8 h, GPU"},
    config=Config, jobs=jobs, measures=(rates, control, hal, content), claims=claims, pictures=pictures,
)
# fmt: on
