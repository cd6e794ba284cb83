r"""Critical windows on targets whose truth is known: each kind of error is found where it is decided.

For each shipped model the windows are found without labels (:mod:`intermode.critical`). Beneath the change stands the
AUROC at each level of the three parts of one experiment (:mod:`intermode.detect.bias`): residual, bias and Hal, of the
same re-noisings. Detectors with ``window="critical"`` are judged against those at the best single level, which is
chosen on labels. Of images the error is two shapes of a kind, against good images, and against good ones *at matched
content*: AUROC among images with the same number of shapes, averaged with the weights of the errors there.

Only errors and some good samples are scored: an AUROC does not depend on how many there are of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from intermode import scoring
from intermode.critical import CriticalWindows
from intermode.critical import critical_windows as restarted
from intermode.detect import AtTimesteps
from intermode.detect.bias import Bias, parts
from intermode.detect.critical import windows_of
from intermode.detect.hal import HalRenoise
from intermode.detect.lid import LID
from intermode.detect.residual import Residual
from intermode.evaluation import Estimate, detection, matched
from intermode.jobs import Job, Running
from intermode.noise import NoiseStream
from intermode.sampling import even_chunk
from intermode.study import Claim, Found, Measured, Picture, Study, at_least
from intermode.study.configs import Lattice, LatticeModel, LineModel, Pool, ShapesModel, check_least
from intermode.study.steps import Tabulated, denoiser_of, labelled, model_job, pool_job, pool_of

__all__ = ["STUDY", "Config"]

DETECTORS: Mapping[str, AtTimesteps] = {
    "lid": LID(window="critical"),
    "bias": Bias(window="critical"),
    "residual": Residual(window="critical"),
    "hal-renoise": HalRenoise(window="critical"),
}
JUDGED = "lid"
"""The detector whose AUROC is claimed: the residual by re-noisings, which sees what lies between two modes too."""
PARTS = ("residual", "bias", "hal")
TARGETS = {"1d": "gaussian-1d", "2d": "grid", "2d_diamond": "diamond", "shapes": "shapes"}


@dataclass(frozen=True)
class Config:
    """Settings of ``critical-windows``.

    Attributes:
        line, grid, diamond, shapes: models.
        samples: of each model of a few numbers.
        images: of the model of shapes.
        good: in-support samples that are scored, with all errors, at most as many.
        noises: re-noisings of a sample at each level.
        restarts: samples of each kind that are restarted from each level, at most.
    """

    line: LineModel = LineModel(shipped="gaussian-1d")
    grid: LatticeModel = LatticeModel(shipped="grid")
    diamond: LatticeModel = LatticeModel(target=Lattice("diamond"), shipped="diamond")
    shapes: ShapesModel = ShapesModel(shipped="shapes")
    samples: int = 200_000
    images: Pool = Pool(n=12_288, variance="small", steps=50, chunk=32)
    good: int = 600
    noises: int = 8
    restarts: int = 60

    def __post_init__(self) -> None:
        check_least(self, 1, "samples", "good", "noises", "restarts")

    @property
    def seed(self) -> int:
        return self.line.seed

    @property
    def models(self) -> dict[str, Any]:
        return dict(zip(TARGETS, (self.line, self.grid, self.diamond, self.shapes), strict=True))


def jobs(config: Config) -> dict[str, Job]:
    found, low = {}, Pool(n=config.samples)
    for key, name in TARGETS.items():
        model = found[f"{key}-model"] = model_job(f"{name}-model", config.models[key])
        image = key == "shapes"
        view = None if image else Tabulated(-7, 7) if key == "1d" else Tabulated(-5.5, 5.5, 96, 2, begin=60)
        pool = pool_job(f"{name}-pool", model, config.images if image else low, config.seed, view=view)
        what = {"target": config.models[key].target, "detectors": list(DETECTORS), "seed": config.seed}
        what |= {"good": config.good, "noises": config.noises, "restarts": config.restarts}
        found[key] = Job(f"{name}-examined", examine, what, {"model": model, "pool": pool})
        found[f"{key}-pool"] = pool
    return found


def examine(running: Running) -> dict[str, Any]:
    """The windows of a model; of its errors and some good samples the parts at each level, the scores in the windows,
    and what becomes of them when restarted."""
    config, denoiser = running.config, denoiser_of(running.inputs["model"], running.device)
    x, labels = pool_of(running.inputs["pool"]).x, labelled(running.inputs["pool"], config["target"])
    bad, rule = np.asarray(labels.hallucinated), np.asarray(labels.rule)
    good, most = np.flatnonzero(~bad)[: config["good"]], config["good"]
    kinds = {str(kind): np.flatnonzero(rule == kind)[:most] for kind in np.unique(rule[bad])}
    rows = np.concatenate([good, *kinds.values()])
    found = windows_of(denoiser)
    chosen = x[rows].to(denoiser.dtype)
    scores = scoring.score(denoiser, chosen, list(DETECTORS.values()), seed=config["seed"], progress=running.progress)
    per_level: dict[str, list[torch.Tensor]] = {part: [] for part in PARTS}
    size, shape = even_chunk(len(rows), denoiser.shape), denoiser.shape
    with running.progress.task("re-noising", len(found.levels), 0, "levels") as task:
        for t in found.levels:
            at: dict[str, list[torch.Tensor]] = {part: [] for part in PARTS}
            for first in range(0, len(rows), size):
                own = chosen[first : first + size].to(denoiser.device)
                noise = NoiseStream(
                    config["seed"], first, len(own), shape, purpose="renoise", device=denoiser.device, restart=t
                )
                residual, bias = parts(denoiser, own, noise, (t,), config["noises"])
                for part, value in zip(PARTS, (residual, bias, residual - bias), strict=True):
                    at[part].append(value.cpu().nan_to_num(torch.inf, torch.inf))
            for part in PARTS:
                per_level[part].append(torch.cat(at[part]))
            task.advance(1)
    again = np.concatenate([each[: config["restarts"]] for each in (good, *kinds.values())])
    finite = again[torch.isfinite(x[again]).flatten(1).all(1).numpy()]
    fate = restarted(
        denoiser,
        x=x[finite],
        levels=found.levels,
        labels=config["target"].target,
        seed=config["seed"],
        progress=running.progress,
    )
    tensors = {f"score.{name}": torch.from_numpy(value) for name, value in scores.items()}
    tensors |= {part: torch.stack(values) for part, values in per_level.items()}
    running.save({**tensors, "rows": torch.from_numpy(rows)})
    told = asdict(found)
    return {
        **{key: told[key] for key in ("levels", "snr", "changed", "moved", "rises", "evaluations")},
        "kinds": {kind: asdict(each) for kind, each in fate.kinds.items()},
    }


def judged(config: Config, found: Found, key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Of the scored rows, (n,) bool which are judged and which of those are bad, and of images how many shapes."""
    labels = labelled(found[f"{key}-pool"], config.models[key].target)
    rows = found[key].tensors()["rows"].numpy()
    bad = np.asarray(labels.duplicate if key == "shapes" else labels.hallucinated)[rows]
    use = bad | ~np.asarray(labels.hallucinated)[rows]
    content = np.asarray(labels.counts_by_kind).sum(1)[rows][use] if key == "shapes" else None
    return use, bad[use], content


def measure_of(key: str) -> Callable[[Config, Found], Measured]:
    """The measures of one model."""

    def measure(config: Config, found: Found) -> Measured:
        return measures(key, config, found)

    measure.__name__ = f"windows of {TARGETS[key]}"
    return measure


def measures(key: str, config: Config, found: Found) -> Measured:
    """One model: its windows, and how well detectors do in them and at each level."""
    facts, tensors = found[key].facts, found[key].tensors()
    use, bad, content = judged(config, found, key)
    levels, rises = facts["levels"], facts["rises"]
    prefix = f"critical_auroc_{key}"
    wanted = [prefix, *([f"{prefix}_matched"] if key == "shapes" else [])]
    measured = Measured(dict.fromkeys(wanted))
    measured.values |= {f"errors_{key}": int(bad.sum()), f"window_evaluations_{key}": facts["evaluations"]}
    for k, rise in enumerate(rises):
        for name in ("edge", "low", "high"):
            if rise[name] is not None:
                measured.values[f"rise_{key}_{k}_{name}"] = Estimate(**rise[name])
    measured.series[f"{key}_changed"] = [
        {"t": t, "changed": changed, "moved": moved}
        for t, changed, moved in zip(levels, facts["changed"], facts["moved"], strict=True)
    ]
    if min(bad.sum(), (~bad).sum()) < 2:
        measured.notes.append(f"{TARGETS[key]}: too few errors ({int(bad.sum())}) to judge a detector.")
        return measured
    best = {}
    for name in DETECTORS:
        scores = tensors[f"score.{name}"].numpy()[use]
        auroc = detection(scores, bad, seed=config.seed).auroc
        measured.values[f"{prefix}_{name.replace('-', '_')}"] = auroc
        if name == JUDGED:
            measured.values[prefix] = auroc
        if content is not None:
            at_equal = matched(scores, bad, content, seed=config.seed)
            measured.values[f"{prefix}_matched_{name.replace('-', '_')}"] = at_equal
            if name == JUDGED:
                measured.values[f"{prefix}_matched"] = at_equal
    for part in PARTS:
        values = tensors[part].numpy()[:, use]
        aurocs = [detection(row, bad, seed=config.seed).auroc for row in values]
        measured.series[f"{key}_{part}"] = [asdict(auroc) for auroc in aurocs]
        best[part] = max(range(len(levels)), key=lambda k, of=aurocs: of[k].value)  # type: ignore[misc] # of is a list
        measured.values |= {
            f"best_level_{key}_{part}": levels[best[part]],
            f"best_auroc_{key}_{part}": aurocs[best[part]],
        }
    return measured


def claims(config: Config) -> list[Claim]:
    without = "in windows found without labels"
    return [
        Claim(
            "shapes",
            "critical_auroc_shapes",
            at_least(0.95),
            f"The residual {without} tells two shapes of a kind from good images: AUROC, at least 0.95",
            "–",
        ),
        Claim(
            "shapes-matched",
            "critical_auroc_shapes_matched",
            at_least(0.93),
            f"The residual {without} does so among images with the same number of shapes: AUROC, at least 0.93",
            "–",
        ),
        *(
            Claim(
                f"{key.replace('_', '-')}",
                f"critical_auroc_{key}",
                at_least(0.98),
                f"The residual {without} finds what {TARGETS[key]} puts off the support: AUROC, at least 0.98",
                "–",
            )
            for key in ("1d", "2d", "2d_diamond")
        ),
    ]


def draw(key: str, config: Config, found: Found, measured: Measured, path: Path) -> str:
    facts = found[key].facts

    def estimates(rows: list[Mapping[str, Any]]) -> tuple[Estimate, ...]:
        return tuple(Estimate(**row) for row in rows)

    shown = CriticalWindows.told(facts)
    auroc = {part: estimates(rows) for part in PARTS if (rows := measured.series.get(f"{key}_{part}"))}
    shown.draw(path, auroc)
    return (
        f"The model {TARGETS[key]}: how many of its samples change when restarted from t, and how far they move; what "
        "of each kind is bad after that; AUROC of the residual and its two parts at t. Grey below the critical window, "
        "orange in it: both found without labels. 95 % intervals."
    )


# fmt: off
TIERS: dict[str, dict[str, Any]] = {
    "smoke": {
        "shapes.shipped": None, "shapes.size": 64, "shapes.noise.timesteps": 40, "shapes.network.patch": 8,
        "shapes.network.channels": (32,), "shapes.network.attention": (), "shapes.train.steps": 20,
        "shapes.train.batch": 8, "images.n": 24, "images.steps": 10, "images.chunk": 8, "samples": 2000, "good": 20,
        "noises": 2, "restarts": 20,
    },
    "quick": {},
    "long": {"good": 2000, "noises": 32, "restarts": 200, "samples": 1_000_000},
    "paper": {"good": 2000, "noises": 32, "restarts": 200, "samples": 1_000_000, "images.n": 100_000},
}
# fmt: on
"""What each tier differs in from the quick one, by dotted names."""

STUDY = Study(
    "critical-windows",
    figures="–",
    summary="The noise levels at which a model decides what a sample is, found without labels: there errors show",
    config=Config,
    tiers=TIERS,
    times={"smoke": "1 min", "quick": "45 min", "long": "3 h", "paper": "1 h, GPU"},
    jobs=jobs,
    measures=tuple(map(measure_of, TARGETS)),
    claims=claims,
    pictures=lambda config: [Picture(f"windows-{name}", partial(draw, key)) for key, name in TARGETS.items()],
)
