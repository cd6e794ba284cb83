r"""What causes mode interpolation (paper: section 4.3, Fig. 4).

The true score of a mixture jumps between its modes at small t; a network learns a smoothed jump. Drawn are the
score and :math:`\hat x_0`, true and learned, at timesteps 0..20. Measured is the steepest slope
:math:`\max_x \partial \hat x_0 / \partial x_t` between neighbouring modes, learned over true; and, as control,
the share of hallucinations when the true score itself is sampled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from intermode import plots
from intermode.denoisers import Denoiser, MixtureDenoiser
from intermode.evaluation import share
from intermode.experiments.gaussian_1d import MixtureConfig, exact_mass, true_score_claim
from intermode.run import Claim, Results, Run
from intermode.sampling import Plan, tally
from intermode.targets.gaussian import GaussianMixture

__all__ = ["TIERS", "Config", "run"]

PLOTTED = (0, 1, 2, 5, 10, 15, 20)
SPACING = 2e-4
"""Of the points at which slopes are taken: the true jump at t = 0 is some 3e-3 wide."""


@dataclass(frozen=True)
class Config(MixtureConfig):
    """Settings of ``score-field``.

    Attributes:
        samples: drawn with the true score.
    """

    samples: int = 200_000

    def check(self) -> None:
        super().check()
        Plan(self.samples, (1,))


TIERS = {
    "smoke": Config(train_size=5000, timesteps=300, steps=300, batch=500, samples=5000),
    "quick": Config(),
    "paper": Config(steps=50_000, batch=10_000, decay="none", samples=10_000_000, threads=4, device="cuda"),
}


def run(run: Run, config: Config) -> Results:
    """Train, compare the fields, run the control; see the module's docstring."""
    torch.set_num_threads(config.threads)
    results, target = Results(), config.target
    learned = config.fit(run.path / "model", run.progress)
    true = MixtureDenoiser(target, config.schedule)
    run.keep_time()
    _smoothing(results, target, true, learned)
    _control(run, results, config, true)
    _figure(run, results, target, true, learned)
    return results


def _slope(denoiser: Denoiser, target: GaussianMixture, t: int) -> float:
    """Steepest rise of x0_hat between neighbouring modes."""
    a, _ = denoiser.schedule.level(t)
    modes = np.sort(target.means[:, 0]) * a
    x = torch.from_numpy(np.arange(modes[0], modes[-1], SPACING))[:, None].requires_grad_()
    slopes = []
    for part in x.split(65536):
        x0_hat = denoiser(part.to(denoiser.dtype), t)
        slopes.append(torch.autograd.grad(x0_hat.sum(), part)[0].max())
    return float(torch.stack(slopes).max())


def _smoothing(results: Results, target: GaussianMixture, true: Denoiser, learned: Denoiser) -> None:
    timesteps = range(min(21, len(true.schedule)))
    rows = [{"t": t, "true": _slope(true, target, t), "learned": _slope(learned, target, t)} for t in timesteps]
    results.series["steepest_slope"] = rows
    ratios = np.array([row["learned"] / row["true"] for row in rows])
    results.values |= {f"slope_ratio_t{t}": float(ratios[t]) for t in PLOTTED if t < len(ratios)}
    last = int(timesteps[-1])
    smoothed = ratios < 1
    results.values["smoothed_until_t"] = last if smoothed.all() else int(smoothed.argmin()) - 1
    for name, when, ratio in (
        ("smoothed-step", "at t = 0", float(ratios[0])),
        ("smoothed-all", f"at the t of 0..{last} where it comes closest to the true one", float(ratios.max())),
    ):
        results.claims.append(
            Claim(
                name,
                f"The learned x0_hat is a smoothed step: its steepest slope over the true one {when}, under 1",
                "smoothed, t = 0..20 (Fig. 4)",
                ratio,
                None,
                None,
                ratio < 1,
            )
        )
    if not smoothed.all():
        results.notes.append(
            f"The learned step is flatter than the true one up to t = {results.values['smoothed_until_t']}; "
            f"at t = {int(ratios.argmax())} its slope is {ratios.max():.2f} times the true one: what this model cannot "
            "follow are the sharp jumps of the last timesteps, not those of the whole range that Fig. 4 shows."
        )


def _control(run: Run, results: Results, config: Config, true: MixtureDenoiser) -> None:
    target = config.target

    def hallucinated(samples: torch.Tensor) -> np.ndarray:
        return np.array([target.label(samples).hallucinated.sum()])

    plan = Plan(config.samples, (1,), config.seed, device=config.device)
    count = int(
        tally(true, config.sampler, plan, hallucinated, file=run.path / "control.safetensors", progress=run.progress)[0]
    )
    seen = share(count, config.samples)
    mass, _ = exact_mass(true, config, run.progress)
    results.values |= {
        "samples": config.samples,
        "true_score_hallucinated": count,
        "true_score_rate": seen.value,
        "true_score_rate_high": seen.high,
        "true_score_mass": mass.value,
        "true_score_mass_error": mass.error,
    }
    results.claims.append(
        Claim(
            "control-samples",
            f"Sampling {config.samples:,} times with the true score shows no interpolation",
            "none seen",
            seen.value,
            seen.low,
            seen.high,
            count == 0,
        )
    )
    results.claims.append(true_score_claim("control-mass", mass))


def _figure(run: Run, results: Results, target: GaussianMixture, true: Denoiser, learned: Denoiser) -> None:
    low, high = target.means.min() - 0.4, target.means.max() + 0.4
    x = torch.linspace(low, high, 3000, dtype=torch.float64)[:, None]
    shown = [t for t in PLOTTED if t < len(true.schedule)]
    quantities = {"score": r"$\nabla \log p_t(x_t)$", "x0": r"$\hat{x}_0(x_t)$"}
    curves: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    with torch.no_grad():
        for name, denoiser in (("true", true), ("learned", learned)):
            points = x.to(denoiser.dtype)
            curves["score", name] = {t: denoiser.score(points, t)[:, 0].double().numpy() for t in shown}
            curves["x0", name] = {t: denoiser(points, t)[:, 0].double().numpy() for t in shown}
    panels = [
        (f"{name} {'score' if quantity == 'score' else 'prediction'}", quantities[quantity], curves[quantity, name])
        for quantity in quantities
        for name in ("true", "learned")
    ]
    reach = max(float(np.abs(v).max()) for v in curves["score", "true"].values())
    limits = {quantities["score"]: (-reach, reach), quantities["x0"]: (low, high)}
    plots.fields(run.figure("fields"), x[:, 0].numpy(), panels, target.means[:, 0].tolist(), limits)
    results.figures["fields"] = (
        "Score (top) and predicted x0 (bottom), true (left) and learned (right). Compare Fig. 4: where the true field "
        "jumps between two modes, the learned one is smoothed."
    )
    rows = results.series["steepest_slope"]
    plots.curves(
        run.figure("slopes"),
        [row["t"] for row in rows],
        {name: ([row[name] for row in rows],) * 3 for name in ("true", "learned")},
        x_label="timestep $t$",
        y_label=r"steepest $\partial \hat{x}_0 / \partial x_t$",
        log_y=True,
    )
    results.figures["slopes"] = "Steepest slope of the predicted x0 between neighbouring modes, true and learned."
