r"""What a `diffusers` scheduler knows of :math:`\hat x_0`.

A scheduler's ``step`` is given the network's output and a sample, which it holds in its own scale

.. math::
    x = A\, x_0 + S\, \varepsilon

with :math:`(A, S)` from its tables at the current step: :math:`(\sqrt{\bar\alpha_t}, \sqrt{1 - \bar\alpha_t})` for
DDPM's kind, :math:`(1, \sigma)` in sigma space (Karras et al. 2022), :math:`(1 - \sigma, \sigma)` in flow matching
(Liu et al. 2023). From the output o, by the scheduler's ``prediction_type`` and before any clipping or thresholding,

.. math::
    \varepsilon:\; \hat x_0 = \frac{x - S o}{A}, \qquad
    v:\; \hat x_0 = \frac{A x - S \sqrt{A^2 + S^2}\, o}{A^2 + S^2}, \qquad
    \text{flow:}\; \hat x_0 = \frac{x - S o}{A + S}.

Steps report :math:`x_t` in one scale for all schedulers, in which the network itself was trained: with
:math:`a_t^2 + s_t^2 = 1` (so sigma-space samples are divided by :math:`\sqrt{1 + \sigma^2}`), in flow matching with
:math:`a_t + s_t = 1`. :math:`\hat x_0` is always in the scale of the data.

Samples in sigma space are divided by a number before the network sees them, by the scheduler's ``scale_model_input``.
With a pipeline that never calls it, the network is shown another noise level than the scheduler reckons with.

Schedulers are known by the class that defines their ``step``. One that is not in the tables, or that cannot tell
:math:`\hat x_0`, is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from intermode.errors import InputError

__all__ = ["HANDLED", "REFUSED", "Handling", "Plan", "handling", "plan"]

Levels = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Plan:
    """The calls of ``step`` that a scheduler has laid out.

    Attributes:
        times: (N,) float64, the scheduler's own ``timesteps``.
        signal, noise: (N + 1,) float64, A and S of the sample at each call and, last, of the result.
        scale: (N + 1,) float64, what a sample is multiplied by to be x_t.
        t: (N,) int64 timesteps of x_t; None where the scheduler does not count noise levels 0..T-1.
        total: T; None likewise.
    """

    times: np.ndarray
    signal: np.ndarray
    noise: np.ndarray
    scale: np.ndarray
    t: np.ndarray | None
    total: int | None

    def level(self, position: int) -> tuple[float, float]:
        """(a_t, s_t) of x_t at a call."""
        scale = self.scale[position]
        return float(scale * self.signal[position]), float(scale * self.noise[position])


@dataclass(frozen=True)
class Handling:
    """How one kind of scheduler is read.

    Attributes:
        how: in words, for the documentation.
        levels: (A, S), (N + 1,) each, from the scheduler after ``set_timesteps``.
        x0_hat: from (scheduler, sample, output, A, S).
        calls: network evaluations of one step: each call is a step, every two are one (a predictor and its
            corrector, of which the first sees x_t), or PNDM's own pattern.
        clock: what the scheduler's timesteps count: noise levels 0..T-1, T times sigma, or neither.
        indexed: the scheduler has ``step_index``, which tells equal timesteps apart.
    """

    how: str
    levels: Callable[[Any], Levels]
    x0_hat: Callable[[Any, Tensor, Tensor, float, float], Tensor]
    calls: Literal["one", "two", "pndm"] = "one"
    clock: Literal["timesteps", "sigma", "none"] = "timesteps"
    indexed: bool = True

    @property
    def scales(self) -> bool:
        """The network is shown ``scale_model_input(x)`` and not x itself: samples in sigma space are large."""
        return self.levels is _of_sigma

    def first_calls(self, scheduler: Any, calls: int) -> list[bool]:
        """Which of a trajectory's calls begin a step: those whose sample is x_t and not a trial point."""
        if self.calls == "two":
            return [call % 2 == 0 for call in range(calls)]
        if self.calls == "pndm":
            # Runge-Kutta takes four calls a step; the multistep rule begins with a step of two calls
            runge_kutta = 0 if scheduler.config.skip_prk_steps else len(scheduler.prk_timesteps)
            second = 1 if scheduler.config.skip_prk_steps else None
            return [call % 4 == 0 if call < runge_kutta else call != second for call in range(calls)]
        return [True] * calls


def _array(values: Any) -> np.ndarray:
    values = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    return np.asarray(values, dtype=np.float64)


def _setting(scheduler: Any, name: str, default: Any = None) -> Any:
    return getattr(scheduler.config, name, default)


# (A, S) of the sample


def _of_timestep(scheduler: Any) -> Levels:
    alpha_bar = _array(scheduler.alphas_cumprod)[_array(scheduler.timesteps).astype(np.int64)]
    alpha_bar = np.append(alpha_bar, 1.0)
    return np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)


def _of_sigma(scheduler: Any) -> Levels:
    sigma = _array(scheduler.sigmas)
    return np.ones_like(sigma), sigma


def _of_solver(scheduler: Any) -> Levels:
    sigma = _array(scheduler.sigmas)
    if _setting(scheduler, "use_flow_sigmas", False):
        return 1 - sigma, sigma
    a = 1 / np.hypot(1, sigma)
    return a, sigma * a


def _of_flow(scheduler: Any) -> Levels:
    sigma = _array(scheduler.sigmas)
    if _setting(scheduler, "invert_sigmas", False):
        return sigma, 1 - sigma
    return 1 - sigma, sigma


def _of_complement(scheduler: Any) -> Levels:
    sigma = np.append(1 - _array(scheduler.timesteps), 0.0)
    return 1 - sigma, sigma


def _of_circle(scheduler: Any) -> Levels:
    return _array(scheduler.alphas), _array(scheduler.betas)


def _of_angle(scheduler: Any) -> Levels:
    angle = _array(scheduler.timesteps)
    return np.cos(angle), scheduler.config.sigma_data * np.sin(angle)


def _of_cosine(scheduler: Any) -> Levels:
    t, s, power = _array(scheduler.timesteps), scheduler.config.s, scheduler.config.scaler
    t = 1 - (1 - t) ** power if power > 1 else t**power if power < 1 else t

    def curve(u: Any) -> Any:
        return np.cos((u + s) / (1 + s) * np.pi / 2) ** 2

    alpha_bar = np.clip(curve(t) / curve(0.0), 1e-4, 0.9999)
    return np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)


# x0_hat from the output


def _from_eps(_: Any, x: Tensor, output: Tensor, a: float, s: float) -> Tensor:
    return (x - s * output) / a


def _from_flow(_: Any, x: Tensor, output: Tensor, a: float, s: float) -> Tensor:
    return (x - s * output) / (a + s)


def _from_flow_to_data(_: Any, x: Tensor, output: Tensor, a: float, s: float) -> Tensor:
    return (x + s * output) / (a + s)


def _from_flow_either_way(scheduler: Any, x: Tensor, output: Tensor, a: float, s: float) -> Tensor:
    inverted = _setting(scheduler, "invert_sigmas", False)
    return (_from_flow_to_data if inverted else _from_flow)(scheduler, x, output, a, s)


def _from_v(_: Any, x: Tensor, output: Tensor, a: float, s: float) -> Tensor:
    square = a**2 + s**2
    return (a * x - s * square**0.5 * output) / square


def _from_prediction(scheduler: Any, x: Tensor, output: Tensor, a: float, s: float) -> Tensor:
    prediction = _setting(scheduler, "prediction_type", "epsilon")
    if prediction == "epsilon":
        return _from_eps(scheduler, x, output, a, s)
    if prediction == "v_prediction":
        return _from_v(scheduler, x, output, a, s)
    if prediction == "flow_prediction":
        return _from_flow(scheduler, x, output, a, s)
    return output


def _from_preconditioned(scheduler: Any, x: Tensor, output: Tensor, a: float, s: float) -> Tensor:
    # Karras et al. 2022, table 1, with A = 1; "v_prediction" turns the output's sign
    data = scheduler.config.sigma_data
    square = data**2 + s**2
    out = s * data / square**0.5
    if _setting(scheduler, "prediction_type", "epsilon") == "v_prediction":
        out = -out
    return data**2 / square * x + out * output


def _from_consistency(scheduler: Any, x: Tensor, output: Tensor, a: float, s: float) -> Tensor:
    # Song et al. 2023, appendix C: the identity at the smallest sigma
    data, over = scheduler.config.sigma_data, s - scheduler.config.sigma_min
    return data**2 / (over**2 + data**2) * x + over * data / (s**2 + data**2) ** 0.5 * output


def _from_trigflow(scheduler: Any, x: Tensor, output: Tensor, a: float, s: float) -> Tensor:
    return a * x - s / scheduler.config.sigma_data * output  # s holds sigma_data, the output does not


_DDPM = Handling("α, σ of `alphas_cumprod[t]`", _of_timestep, _from_prediction, indexed=False)
_DDPM_INDEXED = Handling("α, σ of `alphas_cumprod[t]`", _of_timestep, _from_prediction)
_SIGMA = Handling("σ of `sigmas`, samples in sigma space", _of_sigma, _from_prediction)
_SIGMA_TWICE = Handling(
    "σ of `sigmas`, samples in sigma space; two calls are one step", _of_sigma, _from_prediction, calls="two"
)
_SOLVER = Handling("α, σ of `sigmas`, or of flow matching (`use_flow_sigmas`)", _of_solver, _from_prediction)
_EDM = Handling("σ of `sigmas`, preconditioned by `sigma_data`", _of_sigma, _from_preconditioned, clock="none")
_FLOW = Handling("flow matching, x - σ v", _of_flow, _from_flow, clock="sigma")

HANDLED: dict[str, Handling] = {
    "CMStochasticIterativeScheduler": Handling(
        "σ of `sigmas`; the consistency function", _of_sigma, _from_consistency, clock="none"
    ),
    "CogVideoXDDIMScheduler": _DDPM,
    "CogVideoXDPMScheduler": _DDPM,
    "CosineDPMSolverMultistepScheduler": _EDM,
    "DDIMParallelScheduler": _DDPM,
    "DDIMScheduler": _DDPM,
    "DDPMParallelScheduler": _DDPM,
    "DDPMScheduler": _DDPM,
    "DDPMWuerstchenScheduler": Handling(
        "ᾱ of its cosine at t in 0..1", _of_cosine, _from_eps, clock="none", indexed=False
    ),
    "DEISMultistepScheduler": _SOLVER,
    "DPMSolverMultistepScheduler": _SOLVER,
    "DPMSolverSDEScheduler": _SIGMA_TWICE,
    "DPMSolverSinglestepScheduler": _SOLVER,
    "EDMDPMSolverMultistepScheduler": _EDM,
    "EDMEulerScheduler": _EDM,
    "EulerAncestralDiscreteScheduler": _SIGMA,
    "EulerDiscreteScheduler": _SIGMA,
    "FlowMatchEulerDiscreteScheduler": Handling(
        "flow matching, x - σ v (x + (1 - σ) v with `invert_sigmas`)",
        _of_flow,
        _from_flow_either_way,
        clock="sigma",
    ),
    "FlowMatchHeunDiscreteScheduler": Handling(
        "flow matching, x - σ v; two calls are one step", _of_flow, _from_flow, calls="two", clock="sigma"
    ),
    "FlowMatchLCMScheduler": _FLOW,
    "HeunDiscreteScheduler": _SIGMA_TWICE,
    "IPNDMScheduler": Handling("α, σ on a circle, v", _of_circle, _from_v, clock="none"),
    "KDPM2AncestralDiscreteScheduler": _SIGMA_TWICE,
    "KDPM2DiscreteScheduler": _SIGMA_TWICE,
    "LCMScheduler": _DDPM_INDEXED,
    "LMSDiscreteScheduler": _SIGMA,
    "LTXEulerAncestralRFScheduler": _FLOW,
    "MiniMaxH3Scheduler": Handling(
        "flow matching with t = 1 - σ, x + σ v", _of_complement, _from_flow_to_data, clock="none"
    ),
    "PNDMScheduler": Handling(
        "α, σ of `alphas_cumprod[t]`; Runge-Kutta's four calls, and the first two others, are one step",
        _of_timestep,
        _from_prediction,
        calls="pndm",
        indexed=False,
    ),
    "SASolverScheduler": _SOLVER,
    "SCMScheduler": Handling("trigflow, cos(t) x - sin(t) v", _of_angle, _from_trigflow, clock="none"),
    "TCDScheduler": _DDPM_INDEXED,
    "UnCLIPScheduler": _DDPM,
    "UniPCMultistepScheduler": _SOLVER,
}
"""The scheduler classes that are read, and how."""

_TOKENS = "samples tokens, which have no x0_hat in R^d"
_INVERSE = "noises a finished image and samples nothing"
_STAGES = "goes through stages of growing resolution"

REFUSED: dict[str, str] = {
    "AmusedScheduler": _TOKENS,
    "BlockRefinementScheduler": _TOKENS,
    "DDIMInverseScheduler": _INVERSE,
    "DPMSolverMultistepInverseScheduler": _INVERSE,
    "DiscreteDDIMScheduler": _TOKENS,
    "EntropyBoundScheduler": _TOKENS,
    "FlowMapEulerDiscreteScheduler": "is given the mean velocity to the next timestep, which does not tell x0_hat",
    "HeliosDMDScheduler": _STAGES,
    "HeliosScheduler": _STAGES,
    "KarrasVeScheduler": "is deprecated and corrects each step by a call of its own",
    "PiflowScheduler": "is given several x0_hat at once",
    "RFD4ProteinaScheduler": "moves coordinates and latents of a protein in turn",
    "RePaintScheduler": "goes back up in noise again and again, so that its steps are no one trajectory",
    "ScoreSdeVeScheduler": "has no step but a predictor and correctors",
    "VQDiffusionScheduler": _TOKENS,
}
"""The scheduler classes that are refused, and why."""


def handling(scheduler: Any) -> Handling:
    """How a scheduler is read.

    Raises:
        InputError: a class that is not known or cannot be handled, or settings in which x0_hat is not defined.
    """
    name = type(scheduler).__name__
    homes = [kind for kind in type(scheduler).__mro__ if "step" in vars(kind) or kind.__name__ in REFUSED]
    home = homes[0].__name__ if homes and homes[0].__module__.startswith("diffusers.") else None
    if home in REFUSED:
        raise InputError(f"scheduler: {name} {REFUSED[home]}")
    if home is None or home not in HANDLED:
        raise InputError(
            f"scheduler: {name} is not known; feed the detectors from your own loop (intermode.integrations)"
        )
    _check_settings(scheduler, name)
    return HANDLED[home]


def _check_settings(scheduler: Any, name: str) -> None:
    prediction = _setting(scheduler, "prediction_type", "epsilon")
    known = ("epsilon", "sample", "original_sample", "v_prediction", "flow_prediction", "trigflow")
    if prediction not in known:
        raise InputError(
            f"scheduler: {name} has prediction_type {prediction!r}, which is not one of {', '.join(known)}"
        )
    flow = _setting(scheduler, "use_flow_sigmas")
    if (
        flow is not None
        and (prediction in ("v_prediction", "flow_prediction"))
        and flow == (prediction == "v_prediction")
    ):
        raise InputError(
            f"scheduler: {name} with prediction_type {prediction!r} and use_flow_sigmas {flow} has no x0_hat"
        )
    if _setting(scheduler, "invert_sigmas", False) and (
        name == "FlowMatchLCMScheduler" or _setting(scheduler, "stochastic_sampling", False)
    ):
        raise InputError(f"scheduler: {name} with invert_sigmas draws its noise at the wrong level")
    if getattr(scheduler, "_scale_factors", None):
        raise InputError(f"scheduler: {name} with scale_factors {_STAGES}")


def plan(scheduler: Any, how: Handling) -> Plan:
    """The calls that the scheduler has laid out by ``set_timesteps``."""
    signal, noise = how.levels(scheduler)
    times = _array(scheduler.timesteps)
    calls = min(len(times), len(signal) - 1)  # some list the end of the trajectory among their timesteps
    times, signal, noise = times[:calls], signal[: calls + 1], noise[: calls + 1]
    flow = how.levels in (_of_flow, _of_complement) or bool(_setting(scheduler, "use_flow_sigmas", False))
    scale = 1 / (signal + noise if flow else np.hypot(signal, noise))
    scale[np.isclose(scale, 1, rtol=1e-9)] = 1.0  # such samples are in the right scale as they are
    total = _setting(scheduler, "num_train_timesteps")
    t = None
    if how.clock == "sigma":
        t, total = np.rint(total * noise[:calls]).astype(np.int64), total + 1
    elif how.clock == "timesteps" and _setting(scheduler, "timestep_type") != "continuous":
        t = np.rint(times).astype(np.int64)
    return Plan(times, signal, noise, scale, t, None if t is None else total)
