r"""What causes mode interpolation (paper: section 4.3, Fig. 4).

The true score of a mixture jumps between its modes at small t; a network learns a smoothed jump. Drawn are the
score and :math:`\hat x_0`, true and learned, at timesteps 0..20. Measured is the steepest slope
:math:`\max_x \partial \hat x_0 / \partial x_t` between neighbouring modes, learned over true, with an interval over
several trained models; and, as control, the share of hallucinations when the true score itself is sampled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from intermode import plots
from intermode.denoisers import Denoiser, MixtureDenoiser
from intermode.evaluation import over_seeds, share
from intermode.jobs import Job
from intermode.samplers import Ancestral
from intermode.studies.gaussian_1d import TRUE_SCORE
from intermode.studies.gaussian_1d_sweeps import name_of
from intermode.study import Claim, Found, Measured, Picture, Study, below
from intermode.study.configs import LineModel, check_least
from intermode.study.steps import count_job, counts_of, denoiser_of, mass_job, mass_of, model_job
from intermode.targets.gaussian import GaussianMixture

__all__ = ["STUDY", "Config"]

PLOTTED = (0, 1, 2, 5, 10, 15, 20)
SPACING = 2e-4
"""Of the points at which slopes are taken: the true jump at t = 0 is some 3e-3 wide."""


@dataclass(frozen=True)
class Config:
    """Settings of ``score-field``.

    Attributes:
        model: of the mixture.
        seeds: models, with seeds from the model's on.
        samples: drawn with the true score.
        variance: of the sampler.
    """

    model: LineModel = LineModel()
    seeds: int = 3
    samples: int = 200_000
    variance: Literal["large", "small"] = "large"

    def __post_init__(self) -> None:
        check_least(self, 1, "seeds", "samples")
        _ = Ancestral(self.variance)

    @property
    def seed(self) -> int:
        return self.model.seed

    @property
    def target(self) -> GaussianMixture:
        return self.model.target.target

    @property
    def true(self) -> MixtureDenoiser:
        """The true score, as a denoiser."""
        return MixtureDenoiser(self.target, self.model.noise.schedule)


def jobs(config: Config) -> dict[str, Job]:
    models = [replace(config.model, seed=config.seed + k) for k in range(config.seeds)]
    sampler = Ancestral(config.variance)
    return {
        **{f"model-{k}": model_job(name_of(model, config.model), model) for k, model in enumerate(models)},
        "control": count_job("samples-of-the-true-score", sampler, config.model, config.samples, config.seed),
        "true": mass_job("mass-of-the-true-score", sampler, config.model),
    }


def slope(denoiser: Denoiser, target: GaussianMixture, t: int) -> float:
    """Steepest rise of x0_hat between neighbouring modes."""
    a, _ = denoiser.schedule.level(t)
    modes = np.sort(target.means[:, 0]) * a
    x = torch.from_numpy(np.arange(modes[0], modes[-1], SPACING))[:, None].requires_grad_()
    slopes = []
    for part in x.split(65536):
        x0_hat = denoiser(part.to(denoiser.dtype), t)
        slopes.append(torch.autograd.grad(x0_hat.sum(), part)[0].max())
    return float(torch.stack(slopes).max())


def smoothing(config: Config, found: Found) -> Measured:
    """Slopes of the learned step over those of the true one."""
    target = config.target
    learned = [denoiser_of(found[f"model-{k}"]) for k in range(config.seeds)]
    rows, ratios = [], []
    for t in range(min(21, config.model.noise.timesteps)):
        true, models = slope(config.true, target, t), [slope(denoiser, target, t) for denoiser in learned]
        ratios.append([model / true for model in models])
        rows.append({"t": t, "true": true, "learned": over_seeds(models).triple, "by_seed": models})
    measured = Measured(series={"steepest_slope": rows})
    means = [over_seeds(ratio) for ratio in ratios]
    measured.values |= {f"slope_ratio_t{t}": means[t] for t in PLOTTED if t < len(means)}
    measured.values["slope_ratio_max"] = over_seeds(np.max(ratios, axis=0))
    steep = [t for t, mean in enumerate(means) if mean.value >= 1]
    measured.values["smoothed_until_t"] = steep[0] - 1 if steep else len(means) - 1
    if steep:
        most = max(range(len(means)), key=lambda t: means[t].value)
        measured.notes.append(
            f"The learned step is flatter than the true one up to t = {steep[0] - 1}; at t = {most} its slope is "
            f"{means[most].value:.2f} times the true one: what these models cannot follow are the sharp jumps of the "
            "last timesteps, not those of the whole range that Fig. 4 shows."
        )
    return measured


def control(config: Config, found: Found) -> Measured:
    """What the true score leaves between the modes."""
    _, count = counts_of(found["control"])
    return Measured(
        {
            "samples": config.samples,
            "true_score_hallucinated": count,
            "true_score_rate": share(count, config.samples),
            "true_score_mass": mass_of(found["true"]),
        }
    )


def claims(config: Config) -> list[Claim]:
    smoothed = "The learned x0_hat is a smoothed step: its steepest slope over the true one"
    paper = "smoothed, t = 0..20 (Fig. 4)"
    last = min(20, config.model.noise.timesteps - 1)
    closest = f"{smoothed} at the t of 0..{last} where it comes closest to the true one, under 1"
    seen = f"Sampling {config.samples:,} times with the true score shows no interpolation (share beyond 6σ, under 1e-4)"
    return [
        Claim("smoothed-step", "slope_ratio_t0", below(1.0), f"{smoothed} at t = 0, under 1", paper),
        Claim("smoothed-all", "slope_ratio_max", below(1.0), closest, paper),
        Claim("control-samples", "true_score_rate", below(1e-4), seen, "none seen"),
        replace(TRUE_SCORE, id="control-mass"),
    ]


def fields(config: Config, found: Found, measured: Measured, path: Path) -> str:
    low, high = config.target.means.min() - 0.4, config.target.means.max() + 0.4
    x = torch.linspace(low, high, 3000, dtype=torch.float64)[:, None]
    quantities = {"score": r"$\nabla \log p_t(x_t)$", "prediction": r"$\hat{x}_0(x_t)$"}
    panels, reach = [], 0.0
    for quantity, words in quantities.items():
        for name, denoiser in (("true", config.true), ("learned", denoiser_of(found["model-0"]))):
            asked = denoiser.score if quantity == "score" else denoiser
            with torch.no_grad():
                points = x.to(denoiser.dtype)
                curves = {t: asked(points, t)[:, 0].double().numpy() for t in PLOTTED if t < len(denoiser.schedule)}
            panels.append((f"{name} {quantity}", words, curves))
            reach = reach or max(float(np.abs(v).max()) for v in curves.values())  # of the true score, the first
    limits = {quantities["score"]: (-reach, reach), quantities["prediction"]: (low, high)}
    plots.fields(path, x[:, 0].numpy(), panels, config.target.means[:, 0].tolist(), limits)
    return (
        "Score (top) and predicted x0 (bottom), true (left) and learned (right). Compare Fig. 4: where the true field "
        "jumps between two modes, the learned one is smoothed."
    )


def slopes(config: Config, found: Found, measured: Measured, path: Path) -> str | None:
    if not (rows := measured.series.get("steepest_slope")):
        return None
    triples = {"true": [(row["true"],) * 3 for row in rows], "learned": [row["learned"] for row in rows]}
    bands: Any = {name: tuple(zip(*triple, strict=True)) for name, triple in triples.items()}
    plots.curves(
        path,
        [row["t"] for row in rows],
        bands,
        x_label="timestep $t$",
        y_label=r"steepest $\partial \hat{x}_0 / \partial x_t$",
        log_y=True,
    )
    return (
        f"Steepest slope of the predicted x0 between neighbouring modes, true and learned, 95 % intervals over "
        f"{config.seeds} models."
    )


# fmt: off
TIERS: dict[str, dict[str, Any]] = {
    "smoke": {
        "model.size": 5000, "model.noise.timesteps": 300, "model.train.steps": 300, "model.train.batch": 500,
        "samples": 5000,
    },
    "quick": {},
    "long": {"model.train.steps": 6_000, "model.train.batch": 5_000, "seeds": 5, "samples": 1_000_000},
    "paper": {
        "model.train.steps": 50_000, "model.train.batch": 10_000, "model.train.decay": "none", "samples": 10_000_000,
    },
}
# fmt: on
"""What each tier differs in from the quick one, by dotted names."""

STUDY = Study(
    "score-field",
    figures="Fig. 4",
    summary="True and learned score and x0_hat; the control run with the true score",
    config=Config,
    tiers=TIERS,
    times={"smoke": "15 s", "quick": "4 min", "long": "1 h", "paper": "1 h, GPU"},
    jobs=jobs,
    measures=(smoothing, control),
    claims=claims,
    pictures=lambda config: [Picture("fields", fields), Picture("slopes", slopes)],
)
