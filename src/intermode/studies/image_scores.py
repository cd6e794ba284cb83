r"""What a score of finished images sees: the error, or only how much is in an image?

Each image is re-noised at levels over the whole range, and of the predictions are kept the residual, the bias and Hal
(:mod:`intermode.detect.bias`), and the largest mean of the bias and of the variance over a patch of 8×8 pixels, for an
error is at one place. The same detectors are asked in the model's critical windows, which are found without labels; and
all of it can be asked of another model, the *auditor*. Beside them stand the scores of the chain that drew the images
(Hal in its windows) and two that know nothing: the share of *white* pixels, and *random* numbers.

Every score is judged in four ways: against all other images, as the paper does; against good images; against good ones
with as many shapes (:func:`intermode.evaluation.matched`); and against good ones after what white pixels explain of it
is taken away, by a line fitted to the good images. A level or window is chosen on one half of the images, by the third,
and judged on the other: such a score is *tuned on labels*, the others are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from intermode import scoring
from intermode.denoisers import Denoiser
from intermode.detect import SampleDetector
from intermode.detect.bias import Bias
from intermode.detect.hal import HalRenoise
from intermode.detect.lid import LID
from intermode.detect.residual import Residual
from intermode.detect.white import white
from intermode.evaluation import Estimate, detection, matched
from intermode.jobs import Done, Job, Running
from intermode.noise import NoiseStream, draws
from intermode.sampling import even_chunk
from intermode.study.configs import Images
from intermode.study.hal import choosing_half
from intermode.study.steps import denoiser_of, labelled, pool_of, windows_known

__all__ = ["CRITICAL", "PARTS", "Judgement", "Truth", "families", "judge", "look_job", "trivial"]

CRITICAL: Mapping[str, SampleDetector] = {
    "lid": LID(window="critical"),
    "residual": Residual(window="critical"),
    "bias": Bias(window="critical"),
    "hal-renoise": HalRenoise(window="critical"),
}
PARTS = ("residual", "bias", "hal", "bias-patch", "hal-patch")
PATCH = 8
FEWEST = 10
"""Images of each class that a score is judged on, at least."""


def look_job(
    name: str,
    model: Job,
    windows: Job,
    pool: Job,
    target: Images,
    levels: tuple[int, ...],
    noises: int,
    seed: int,
    kept: int,
) -> Job:
    """Score images of a pool: those with two of a kind and as many others, at most ``kept`` of each.

    Args:
        name: of the job.
        model: that is asked, the pool's own or an auditor.
        windows: a job that found its critical windows.
        pool: a pool job.
        target: labels its images.
        levels: timesteps of the re-noisings.
        noises: re-noisings at each level.
        seed: noise belongs to (seed, image, level).
        kept: how many.
    """
    what: dict[str, Any] = {"target": target, "levels": levels, "noises": noises, "seed": seed, "kept": kept}
    what["detectors"] = list(CRITICAL)
    return Job(name, look, what, {"model": model, "windows": windows, "pool": pool})


def chosen_rows(duplicate: np.ndarray, kept: int) -> np.ndarray:
    """The first ``kept`` images with two of a kind, and twice as many of the others, as they come: what is bad for
    another reason is among these as often as among all."""
    rows = np.concatenate([np.flatnonzero(duplicate)[:kept], np.flatnonzero(~duplicate)[: 2 * kept]])
    return np.sort(rows)


@torch.no_grad()
def look(running: Running) -> dict[str, Any]:
    """Tensors ``part.<name>`` (levels, rows), ``critical.<name>`` (rows) and ``rows``."""
    config, denoiser = running.config, denoiser_of(running.inputs["model"], running.device)
    windows_known(running.inputs["windows"], denoiser)
    labels = labelled(running.inputs["pool"], config["target"])
    rows = chosen_rows(np.asarray(labels.duplicate), config["kept"])
    x = pool_of(running.inputs["pool"]).x[rows].to(denoiser.dtype)
    found: dict[str, list[Tensor]] = {part: [] for part in PARTS}
    with running.progress.task("re-noising", len(config["levels"]) * len(rows), 0, "images") as task:
        for t in config["levels"]:
            at: dict[str, list[Tensor]] = {part: [] for part in PARTS}
            size = even_chunk(len(rows), denoiser.shape)
            for first in range(0, len(rows), size):
                own = x[first : first + size].to(denoiser.device)
                for part, values in zip(PARTS, maps(denoiser, own, t, config, rows[first : first + size]), strict=True):
                    at[part].append(values.cpu().nan_to_num(torch.inf, torch.inf))
                task.advance(len(own))
            for part in PARTS:
                found[part].append(torch.cat(at[part]))
    detectors = list(CRITICAL.values())
    critical = scoring.score(denoiser, x, detectors, seed=config["seed"], progress=running.progress)
    tensors = {f"part.{part}": torch.stack(values) for part, values in found.items()}
    tensors |= {f"critical.{name}": torch.from_numpy(critical[name]) for name in CRITICAL}
    running.save({**tensors, "rows": torch.from_numpy(rows)})
    return {"images": len(rows)}


def maps(denoiser: Denoiser, x: Tensor, t: int, config: Mapping[str, Any], rows: np.ndarray) -> tuple[Tensor, ...]:
    """(B,) of each part, of x (B, C, H, W) at t."""
    noise = NoiseStream(config["seed"], int(rows[0]), len(x), denoiser.shape, purpose="renoise", rows=rows, restart=t)
    n = config["noises"]
    total, square = torch.zeros_like(x, dtype=torch.float64), torch.zeros_like(x, dtype=torch.float64)
    for _ in range(n):
        off = (denoiser(denoiser.schedule.add_noise(x, noise().to(x.device), t), t) - x).double()
        total += off
        square += off.square()
    bias = (total / n).square()
    variance = (square / n - bias).clamp_min(0)
    sums = (square.flatten(1).sum(1) / n, bias.flatten(1).sum(1), variance.flatten(1).mean(1))
    return *sums, *(avg_pool2d(m, PATCH, PATCH // 2).flatten(1).amax(1) for m in (bias, variance))


# judging


def families(done: Done, levels: tuple[int, ...]) -> dict[str, dict[str, np.ndarray]]:
    """Scores of the rows of a look by family: one for each level, or one that needs no choice."""
    tensors = done.tensors()
    found = {part: {f"t = {t}": tensors[f"part.{part}"][k].numpy() for k, t in enumerate(levels)} for part in PARTS}
    return found | {f"{name}, critical window": {"": tensors[f"critical.{name}"].numpy()} for name in CRITICAL}


def trivial(x: Tensor, seed: int) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Those that know nothing."""
    yield "white", {"": white(x).numpy()}
    yield "random", {"": draws(seed, "probe").random(len(x))}


@dataclass(frozen=True)
class Judgement:
    """What a score can do.

    Attributes:
        score: name of the family.
        setting: the level or window of it, if there were several to choose from.
        tuned: it was chosen on labels, on the other half of the images.
        against_all, against_good, at_equal_shapes, given_white: AUROC.
        removed: share of the errors removed at 95 % kept, among images with as many shapes.
    """

    score: str
    setting: str
    tuned: bool
    against_all: Estimate
    against_good: Estimate
    at_equal_shapes: Estimate | None
    given_white: Estimate
    removed: Estimate | None

    @property
    def row(self) -> dict[str, Any]:
        """For a table."""
        found: dict[str, Any] = {
            "score": self.score,
            "at": self.setting,
            "tuned on labels": "yes" if self.tuned else "no",
        }
        for name in ("against_all", "against_good", "at_equal_shapes", "given_white", "removed"):
            estimate = getattr(self, name)
            for end, value in zip(("", "_low", "_high"), estimate.triple if estimate else (None,) * 3, strict=True):
                found[name + end] = value
        return found


@dataclass(frozen=True)
class Truth:
    """Of the rows that are judged.

    Attributes:
        bad: (n,) bool, the errors that are looked for.
        good: (n,) bool, in support.
        content: (n,) shapes in each.
        white: (n,) share of white pixels.
    """

    bad: np.ndarray
    good: np.ndarray
    content: np.ndarray
    white: np.ndarray

    def of(self, rows: np.ndarray) -> Truth:
        """Some of the rows."""
        return Truth(self.bad[rows], self.good[rows], self.content[rows], self.white[rows])

    @property
    def enough(self) -> bool:
        """Whether there is something to judge."""
        return min(self.bad.sum(), self.good.sum()) >= FEWEST


def judge(score: str, by_setting: Mapping[str, np.ndarray], truth: Truth, seed: int) -> Judgement | None:
    """A family of scores; None where there are too few images of a class.

    Args:
        score: name of the family.
        by_setting: (n,) scores by setting; of several the best is chosen on half of the images.
        truth: of the images.
        seed: of the bootstrap.
    """
    if not truth.enough:
        return None
    setting = next(iter(by_setting))
    if len(by_setting) == 1:
        return judged(score, setting, False, by_setting[setting], truth, seed)
    half = choosing_half(len(truth.bad))
    choosing, judging = truth.of(half), truth.of(~half)
    if not (choosing.enough and judging.enough):
        return None

    def quality(name: str) -> float:
        return at_equal(by_setting[name][half], choosing, "auroc", seed)

    best = max(by_setting, key=quality)
    return judged(score, best, True, by_setting[best][~half], judging, seed)


def at_equal(scores: np.ndarray, truth: Truth, of: str, seed: int) -> float:
    """The matched statistic, or -1 where there is none."""
    use = truth.bad | truth.good
    found = matched(scores[use], truth.bad[use], truth.content[use], of=of, seed=seed)
    return -1.0 if found is None else found.value


def judged(score: str, setting: str, tuned: bool, scores: np.ndarray, truth: Truth, seed: int) -> Judgement:
    """One score in all ways."""
    use = truth.bad | truth.good
    s, bad, content, white = scores[use], truth.bad[use], truth.content[use], truth.white[use]
    finite = np.where(np.isfinite(s), s, np.nanmax(np.where(np.isfinite(s), s, np.nan), initial=0.0))
    slope, level = np.polyfit(white[~bad], finite[~bad], 1) if np.ptp(white[~bad]) else (0.0, 0.0)
    rest = finite - slope * white - level
    rest[np.abs(rest) < 1e-9 * np.ptp(finite)] = 0.0  # nothing is left of white itself; rounding must not rank it
    return Judgement(
        score,
        setting,
        tuned,
        detection(scores, truth.bad, seed=seed).auroc,
        detection(s, bad, seed=seed).auroc,
        matched(s, bad, content, seed=seed),
        detection(rest, bad, seed=seed).auroc,
        matched(s, bad, content, of="removed_at_95_kept", seed=seed),
    )
