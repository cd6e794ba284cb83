"""x0_hat of every scheduler that diffusers exports, against a network that knows the answer.

If all data were one point c, the ideal x0_hat is c whatever x is. The network's output that says so follows from its
input and its timestep alone, by the textbook formulas below, which know nothing of how schedulers keep their tables.
So x0_hat must come back as c at every step of a real run; c lies outside of what schedulers clip to.
"""

import functools
import itertools
import warnings
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch

from intermode.detect.hal import Hal
from intermode.detect.window import SNR, Fraction, Window
from intermode.errors import InputError
from intermode.integrations.schedulers import HANDLED, REFUSED, handling
from intermode.integrations.watching import watch

C = 2.5 * torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))


class Steps:
    """A detector that keeps everything."""

    name, description = "steps", "steps"

    def __init__(self):
        self.steps = []

    def check(self, schedule, timesteps):
        self.timesteps = list(timesteps)
        self.planned = [schedule.level(t) for t in timesteps]

    def start(self, shape):
        self.steps = []

    def update(self, step):
        self.steps.append(step)

    def score(self):
        return torch.zeros(len(self.steps[0].x_t), dtype=torch.float64)


# what a network says that knows c: from x, its input, at the level (a, s) of x = a c + s eps


def output(prediction, x, a, s):
    eps = (x - a * C) / s
    return {"epsilon": eps, "sample": C, "v_prediction": a * eps - s * C, "flow": eps - C}[prediction]


def alpha_bar(t):
    """Of the linear betas 1e-4..0.02 at 1000 timesteps; between them, linear in the logarithm of sigma."""
    values = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    log_sigma = np.log(np.sqrt(1 / values - 1))
    return 1 / (1 + np.exp(2 * np.interp(t, np.arange(1000), log_sigma)))


def ddpm(prediction, x, t):
    a2 = float(alpha_bar(t))
    return output(prediction, x, a2**0.5, (1 - a2) ** 0.5)


def flow(prediction, x, t):
    return output("flow", x, 1 - t / 1000, t / 1000)


def inverted_flow(prediction, x, t):
    return -output("flow", x, t / 1000, 1 - t / 1000)


def preconditioned(sigma):
    """Karras et al. 2022, table 1: the network sees c_in x and c = c_skip x + c_out F."""

    def network(prediction, x, t):
        level, data = sigma(t), 0.5
        x = x * (level**2 + data**2) ** 0.5
        c_out = level * data / (level**2 + data**2) ** 0.5 * (-1 if prediction == "v_prediction" else 1)
        return (C - data**2 / (level**2 + data**2) * x) / c_out

    return network


def consistency(prediction, x, t):
    sigma, data, least = np.exp(t / 250), 0.5, 0.002
    x = x * (sigma**2 + data**2) ** 0.5
    c_out = (sigma - least) * data / (sigma**2 + data**2) ** 0.5
    return (C - data**2 / ((sigma - least) ** 2 + data**2) * x) / c_out


def circle(prediction, x, t):
    return output("v_prediction", x, np.cos(t * np.pi / 2), np.sin(t * np.pi / 2))


def trigflow(prediction, x, t):
    return (np.cos(t) * x - C) / np.sin(t)


def wuerstchen_alpha_bar(t):
    a2 = (np.cos((t + 0.008) / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2)) ** 2
    return float(np.clip(a2, 1e-4, 0.9999))


def wuerstchen(prediction, x, t):
    a2 = wuerstchen_alpha_bar(t)
    return output("epsilon", x, a2**0.5, (1 - a2) ** 0.5)


def complement(prediction, x, t):
    return -output("flow", x, t, 1 - t)


SCM = {"max_timesteps": 1.5, "intermediate_timesteps": None}
LINEAR = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
SOLVER_FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
CASES = [
    *((name, ddpm, {**LINEAR, "prediction_type": p})
      for name in ("DDPMScheduler", "DDPMParallelScheduler", "DDIMScheduler", "DDIMParallelScheduler", "LCMScheduler",
                   "TCDScheduler", "DEISMultistepScheduler", "DPMSolverMultistepScheduler",
                   "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler", "SASolverScheduler",
                   "EulerDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler")
      for p in ("epsilon", "sample", "v_prediction")),
    *((name, ddpm, {**LINEAR, "prediction_type": p})
      for name in ("EulerAncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
                   "DPMSolverSDEScheduler", "PNDMScheduler")
      for p in ("epsilon", "v_prediction")),
    *((name, ddpm, {**LINEAR, "prediction_type": "v_prediction", "snr_shift_scale": 1.0})
      for name in ("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler")),
    ("PNDMScheduler", ddpm, {**LINEAR, "skip_prk_steps": True}),
    *((name, ddpm, {**LINEAR, "thresholding": True})
      for name in ("DDPMScheduler", "DDIMScheduler", "LCMScheduler", "DPMSolverMultistepScheduler",
                   "UniPCMultistepScheduler")),
    *((name, ddpm, {**LINEAR, "timestep_spacing": "trailing"}) for name in
      ("DDIMScheduler", "EulerDiscreteScheduler")),
    *((name, ddpm, {**LINEAR, "use_karras_sigmas": True}) for name in
      ("EulerDiscreteScheduler", "HeunDiscreteScheduler")),
    ("HeunDiscreteScheduler", ddpm, {**LINEAR, "clip_sample": True}),
    ("DPMSolverMultistepScheduler", ddpm, {**LINEAR, "algorithm_type": "sde-dpmsolver++"}),
    ("DPMSolverMultistepScheduler", ddpm, {**LINEAR, "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}),
    ("UniPCMultistepScheduler", ddpm, {**LINEAR, "predict_x0": False, "final_sigmas_type": "sigma_min"}),
    *((name, None, SOLVER_FLOW)
      for name in ("DEISMultistepScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler",
                   "UniPCMultistepScheduler", "SASolverScheduler")),
    ("UnCLIPScheduler", None, {}),
    *((name, flow, {"shift": 3.0}) for name in ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler",
                                                "FlowMatchLCMScheduler")),
    ("FlowMatchEulerDiscreteScheduler", flow, {"stochastic_sampling": True}),
    ("FlowMatchEulerDiscreteScheduler", inverted_flow, {"invert_sigmas": True}),
    ("LTXEulerAncestralRFScheduler", flow, {}),
    ("MiniMaxH3Scheduler", complement, {}),
    *((name, preconditioned(lambda t: np.exp(4 * t)), {"prediction_type": p})
      for name in ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler") for p in ("epsilon", "v_prediction")),
    *(("CosineDPMSolverMultistepScheduler", preconditioned(lambda t: np.tan(t * np.pi / 2)),
       {"sigma_data": 0.5, "prediction_type": p}) for p in ("epsilon", "v_prediction")),
    ("CMStochasticIterativeScheduler", consistency, {}),
    ("IPNDMScheduler", circle, {}),
    ("SCMScheduler", trigflow, {}),
    ("DDPMWuerstchenScheduler", wuerstchen, {}),
]  # fmt: skip


def make(name, settings):
    kind = getattr(diffusers, name)
    try:
        return kind(**settings)
    except ImportError as missing:
        pytest.skip(str(missing).strip())


def run(name, network, settings, steps=9, detectors=()):
    """A watched run of ``steps`` steps; returns what it recorded, the network's inputs, the last sample, the watch."""
    scheduler = make(name, settings)
    extra = SCM if name == "SCMScheduler" else {}
    count = steps + 1 if name == "MiniMaxH3Scheduler" else steps  # it counts the ends of steps
    scheduler.set_timesteps(count, **extra)
    seen, recorded = [], Steps()
    x = torch.randn(C.shape, generator=torch.Generator().manual_seed(1)) * float(
        getattr(scheduler, "init_noise_sigma", 1)
    )
    prediction = settings.get("prediction_type", "epsilon")
    times = scheduler.timesteps[:-1] if name in ("SCMScheduler", "DDPMWuerstchenScheduler") else scheduler.timesteps
    with watch(SimpleNamespace(scheduler=scheduler), [recorded, *detectors]) as watched:
        for call, t in enumerate(times):
            model_input = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
            if network is not None:
                said = network(prediction, model_input.double(), float(t)).float()
            elif name == "UnCLIPScheduler":  # the cosine schedule, by its definition
                ends = np.cos((np.array([float(t), float(t) + 1]) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
                assert ends[0] > ends[1]
                curve = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
                a2 = float(np.cumprod(1 - np.minimum(1 - curve[1:] / curve[:-1], 0.999))[int(t)])
                said = output("epsilon", x.double(), a2**0.5, (1 - a2) ** 0.5).float()
            else:  # these round the timestep of flow matching down
                sigma = float(scheduler.sigmas[call])
                assert abs(sigma - float(t) / 1000) < 2e-3
                said = output("flow", x.double(), 1 - sigma, sigma).float()
            seen.append((float(t), model_input))
            when = t.expand(len(x)) if name == "DDPMWuerstchenScheduler" else t
            if name == "CogVideoXDPMScheduler":
                x = scheduler.step(said, None, when, None, x)[0]
            else:
                x = scheduler.step(said, when, x, return_dict=call % 2 == 0)[0]
    assert "step" not in vars(scheduler)
    assert watched.scores["steps"].shape == (3,)
    return recorded, seen, x, watched


@functools.cache
def watched_run(number):
    """Of CASES; three tests look at it."""
    return run(*CASES[number])


def ids(case):
    return "-".join([case[0], *(f"{k}={v}" for k, v in case[2].items() if k not in LINEAR)])


@pytest.mark.parametrize("number", range(len(CASES)), ids=map(ids, CASES))
def test_x0_hat_is_the_only_data_there_is(number):
    case, (recorded, seen, last, _) = CASES[number], watched_run(number)
    steps = recorded.steps
    assert [step.index for step in steps] == list(range(len(steps)))
    assert {step.steps for step in steps} == {len(steps)}
    for step in steps:
        assert torch.allclose(step.x0_hat, C, rtol=0, atol=3e-3), step.t
    # x_t at its level, in one scale for all
    a, s = np.array([step.level for step in steps]).T
    kept = a + s if "Flow" in case[0] or "flow" in str(case[2]) or case[0][:3] in ("LTX", "Min") else a**2 + s**2
    assert np.allclose(kept, 1, rtol=1e-6)
    assert (np.diff(a / s) > 0).all()
    if case[1] is wuerstchen:
        assert np.allclose(a**2, [wuerstchen_alpha_bar(t) for t, _ in seen], rtol=1e-5)
    elif case[1] is ddpm:
        for step in steps:  # step.t is rounded
            near = np.array([t for t, _ in seen if abs(t - step.t) <= 0.5])
            assert np.abs(alpha_bar(near) / step.level[0] ** 2 - 1).min() < 1e-3
    if case[1] not in (consistency, trigflow) and "EDM" not in case[0] and "Cosine" not in case[0]:
        for step in steps:  # what the network saw
            assert any(torch.allclose(x, step.x_t, rtol=1e-5, atol=1e-6) for _, x in seen)
    for step, after in itertools.pairwise(steps):
        assert torch.allclose(step.x_next, after.x_t, rtol=1e-5, atol=1e-5)
    assert torch.allclose(steps[-1].x_next, last, rtol=1e-3, atol=1e-3)
    # what detectors were told before
    assert recorded.timesteps == [step.t for step in steps]
    assert np.allclose(recorded.planned, [step.level for step in steps], rtol=1e-12)


@pytest.mark.parametrize("number", range(len(CASES)), ids=map(ids, CASES))
def test_a_step_is_counted_once(number):
    """However often the network is called for it."""
    case, (recorded, seen, *_) = CASES[number], watched_run(number)
    calls = {"HeunDiscreteScheduler": 17, "FlowMatchHeunDiscreteScheduler": 17, "DPMSolverSDEScheduler": 17,
             "KDPM2DiscreteScheduler": 17, "KDPM2AncestralDiscreteScheduler": 17,
             "PNDMScheduler": 10 if case[2].get("skip_prk_steps") else 18}.get(case[0], 9)  # fmt: skip
    assert (len(recorded.steps), len(seen)) == (9, calls)


@pytest.mark.parametrize("number", range(len(CASES)), ids=map(ids, CASES))
def test_timesteps_are_the_schedulers_or_refused(number):
    case, (recorded, seen, *_) = CASES[number], watched_run(number)
    found = [step.t for step in recorded.steps]
    if HANDLED[case[0]].clock != "none":
        expected = {round(t) for t, _ in seen} | {round(1000 - t) for t, _ in seen if case[1] is inverted_flow}
        if case[1] is None and case[0] != "UnCLIPScheduler":
            expected = expected | {t + 1 for t in expected}
        assert set(found) <= expected
        assert found == sorted(found, reverse=True)
    else:
        assert found == list(range(9))[::-1]
        scheduler = make(case[0], case[2])
        scheduler.set_timesteps(3, **(SCM if case[0] == "SCMScheduler" else {}))
        x, t = torch.randn(1, 1, 2, 2), scheduler.timesteps[0]
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(x, t)
        when = t[None] if case[0] == "DDPMWuerstchenScheduler" else t
        watched = watch(SimpleNamespace(scheduler=scheduler), [Hal(window=Window(0, 2))])
        with pytest.raises(InputError, match="Fraction"), watched:
            scheduler.step(x, when, x)


def bent(prediction, x, t):
    """A network whose x0_hat moves."""
    return torch.sin(3 * x + t)


@pytest.mark.parametrize("name", sorted(HANDLED))
def test_every_kind_of_window_holds_the_same_steps_of_every_scheduler(name):
    settings = next(settings for of, _, settings in CASES if of == name)
    recorded, *_ = run(name, bent, settings)
    ratio = [(step.level[0] / step.level[1]) ** 2 for step in recorded.steps]
    times = [step.t for step in recorded.steps]
    # the fourth to the seventh of nine steps, in three ways
    windows = {"part": Fraction(3 / 9, 7 / 9), "ratio": SNR(0.99 * ratio[3], 1.01 * ratio[6])}
    if HANDLED[name].clock != "none":
        windows["times"] = (times[6], times[3])
    torch.manual_seed(0)  # some schedulers draw noise
    recorded, *_, watched = run(name, bent, settings, detectors=[Hal(window=w, name=n) for n, w in windows.items()])
    middle = np.stack([step.x0_hat.double().numpy() for step in recorded.steps[3:7]])
    expected = middle.var(axis=0).reshape(3, -1).mean(axis=1)
    assert (expected > 0).all()
    for kind in windows:
        assert np.allclose(watched.scores[kind], expected, rtol=1e-6), kind


@pytest.mark.parametrize("number", range(len(CASES)), ids=map(ids, CASES))
def test_inputs_are_scaled_where_the_table_says_so(number):
    name, _, settings = CASES[number]
    scheduler = make(name, settings)
    scheduler.set_timesteps(5, **(SCM if name == "SCMScheduler" else {}))
    assert getattr(scheduler, "step_index", None) is None
    scaled = False
    if hasattr(scheduler, "scale_model_input"):
        scaled = not torch.equal(scheduler.scale_model_input(C.clone(), scheduler.timesteps[0]), C)
    assert HANDLED[name].scales == scaled
    if scaled:  # by which watch knows that it was called
        assert scheduler.step_index is not None


def exported():
    return {name for name in dir(diffusers) if name.endswith("Scheduler") and not name.startswith("Flax")}


def test_every_exported_class_is_handled_or_refused():
    assert exported() <= set(HANDLED) | set(REFUSED)
    assert not set(HANDLED) & set(REFUSED)
    assert {name for name, *_ in CASES} == set(HANDLED)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused_classes_are_refused_by_name(name):
    kind = getattr(diffusers, name)
    if kind.__module__.startswith("diffusers.utils"):
        kind = type(name, (), {"__module__": "diffusers.schedulers.deprecated"})  # not importable here
    scheduler = object.__new__(kind)
    with pytest.raises(InputError, match=rf"scheduler: {name} \w+"):
        handling(scheduler)


def test_an_unknown_scheduler_is_refused_even_under_a_known_name():
    class DDPMScheduler:
        def step(self, model_output, timestep, sample):
            return sample

    class Changed(diffusers.DDPMScheduler):
        def step(self, model_output, timestep, sample, **settings):
            return super().step(model_output, timestep, sample / 2, **settings)

    class Renamed(diffusers.DDPMScheduler):
        pass

    for scheduler in (DDPMScheduler(), Changed(), object()):
        with pytest.raises(InputError, match=f"{type(scheduler).__name__} is not known"):
            handling(scheduler)
    assert handling(Renamed()) is HANDLED["DDPMScheduler"]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "v_prediction"}),
        ("DPMSolverMultistepScheduler", {"prediction_type": "flow_prediction"}),
        ("FlowMatchLCMScheduler", {"invert_sigmas": True}),
        ("FlowMatchLCMScheduler", {"scale_factors": [1, 2], "upscale_mode": "bicubic"}),
        ("FlowMatchEulerDiscreteScheduler", {"invert_sigmas": True, "stochastic_sampling": True}),
        ("DDPMScheduler", {"prediction_type": "score"}),
    ],
)
def test_settings_without_an_x0_hat_are_refused(name, settings):
    with pytest.raises(InputError, match=f"scheduler: {name}"):
        handling(getattr(diffusers, name)(**settings))


def test_timesteps_of_each_token_are_refused():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(4)
    x = torch.randn(2, 5, 3)
    with pytest.raises(InputError, match="token"), watch(SimpleNamespace(scheduler=scheduler), [Steps()]):
        scheduler.step(x, scheduler.timesteps[0], x, per_token_timesteps=torch.full((2, 5), 900.0))


def test_noise_added_after_the_network_saw_the_sample_does_not_count():
    """Euler's churn: the network has said what it thinks of x_t, not of what the scheduler makes of it."""
    scheduler = diffusers.EulerDiscreteScheduler(**LINEAR)
    scheduler.set_timesteps(9)
    x, recorded = torch.randn(C.shape) * scheduler.init_noise_sigma, Steps()
    with watch(SimpleNamespace(scheduler=scheduler), [recorded]):
        for t in scheduler.timesteps:
            said = ddpm("epsilon", scheduler.scale_model_input(x, t).double(), float(t)).float()
            x = scheduler.step(said, t, x, s_churn=5.0).prev_sample
    assert all(torch.allclose(step.x0_hat, C, atol=3e-3) for step in recorded.steps)


def test_a_prediction_that_the_pipeline_has_made_is_taken():
    scheduler = diffusers.EDMEulerScheduler()
    scheduler.set_timesteps(4)
    x, recorded = torch.randn(C.shape), Steps()
    with watch(SimpleNamespace(scheduler=scheduler), [recorded]):
        for t in scheduler.timesteps:
            scheduler.scale_model_input(x, t)
            x = scheduler.step(x, t, x, pred_original_sample=C).prev_sample
    assert all(torch.equal(step.x0_hat, C) for step in recorded.steps)


def test_a_learned_variance_is_left_aside():
    scheduler = diffusers.DDPMScheduler(**LINEAR, variance_type="learned_range")
    scheduler.set_timesteps(9)
    x, recorded = torch.randn(C.shape), Steps()
    with watch(SimpleNamespace(scheduler=scheduler), [recorded]):
        for t in scheduler.timesteps:
            said = ddpm("epsilon", x.double(), float(t)).float()
            x = scheduler.step(torch.cat([said, torch.randn(C.shape)], dim=1), t, x).prev_sample
    assert all(torch.allclose(step.x0_hat, C, atol=3e-3) for step in recorded.steps)


def test_half_precision_is_raised_before_the_difference():
    scheduler = diffusers.EulerDiscreteScheduler(**LINEAR)
    scheduler.set_timesteps(9)
    x, recorded = torch.randn(C.shape).half() * scheduler.init_noise_sigma, Steps()
    outputs = []
    with watch(SimpleNamespace(scheduler=scheduler), [recorded]):
        for t in scheduler.timesteps:
            said = ddpm("epsilon", scheduler.scale_model_input(x, t).double(), float(t)).half()
            sigma = float(scheduler.sigmas[scheduler.step_index])
            outputs.append((x.double() - sigma * said.double()).float())
            x = scheduler.step(said, t, x).prev_sample
    for step, exact in zip(recorded.steps, outputs, strict=True):
        assert step.x0_hat.dtype == torch.float32
        assert torch.allclose(step.x0_hat, exact, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("skip", [True, False])
def test_pndms_trial_points_are_no_steps(skip):
    """With a network that bends, unlike one that knows the answer, they lie elsewhere."""
    scheduler = diffusers.PNDMScheduler(**LINEAR, skip_prk_steps=skip)
    scheduler.set_timesteps(9)
    x, recorded, seen = torch.randn(C.shape), Steps(), []
    with watch(SimpleNamespace(scheduler=scheduler), [recorded]):
        for t in scheduler.timesteps:
            seen.append(x)
            x = scheduler.step(torch.sin(3 * x), t, x).prev_sample
    begins = [0, *range(2, 10)] if skip else [0, 4, 8, *range(12, 18)]
    assert len(recorded.steps) == len(begins)
    for step, call in zip(recorded.steps, begins, strict=True):
        assert torch.equal(step.x_t, seen[call])
    assert torch.equal(recorded.steps[-1].x_next, x)


def test_fractions_count_steps_and_not_calls():
    scheduler = diffusers.HeunDiscreteScheduler(**LINEAR)
    scheduler.set_timesteps(10)
    recorded = Steps()
    hal = Hal(window=Fraction(0.5, 1))
    x = torch.randn(C.shape) * scheduler.init_noise_sigma
    with warnings.catch_warnings(), watch(SimpleNamespace(scheduler=scheduler), [recorded, hal]) as watched:
        warnings.simplefilter("error")
        for t in scheduler.timesteps:
            x = scheduler.step(torch.sin(scheduler.scale_model_input(x, t)), t, x).prev_sample
    expected = np.var([step.x0_hat.double().numpy() for step in recorded.steps[5:]], axis=0)
    assert np.allclose(watched.scores["hal"], expected.reshape(3, -1).mean(axis=1), rtol=1e-6)
