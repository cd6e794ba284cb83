"""Samplers step by step against `diffusers`, given the same network outputs and the same noise."""

from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.schedulers import scheduling_ddim, scheduling_ddpm

from intermode.denoisers import Denoiser, MixtureDenoiser, NetworkDenoiser
from intermode.errors import InputError
from intermode.samplers import DDIM, Ancestral, Sampler
from intermode.schedules import CLEAN, cosine, from_diffusers, linear
from intermode.targets.gaussian import line


class Recorded:
    """Gaussian noise that remembers every draw."""

    def __init__(self, shape, seed=0, dtype=torch.float64):
        self.shape, self.dtype = shape, dtype
        self.generator = torch.Generator().manual_seed(seed)
        self.drawn = []

    def __call__(self):
        self.drawn.append(torch.randn(self.shape, generator=self.generator, dtype=self.dtype))
        return self.drawn[-1]


@pytest.fixture
def same_noise(monkeypatch):
    """Makes both `diffusers` schedulers draw the noise that our sampler drew last."""
    noise = Recorded((64, 2))
    for module in (scheduling_ddpm, scheduling_ddim):
        monkeypatch.setattr(module, "randn_tensor", lambda *args, **kwargs: noise.drawn[-1])
    return noise


def exact(scheduler, schedule):
    """Gives a `diffusers` scheduler our float64 alpha bars: its own are float32, in which the paper's underflow."""
    scheduler.alphas_cumprod = torch.from_numpy(schedule.alpha_bar)
    scheduler.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    return scheduler


def compare(sampler, schedule, noise, reference, prediction="eps", network=None):
    """Feeds every step's x_t and network output to ``reference`` and compares what comes out."""
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(2, 2, generator=generator, dtype=torch.float64)
    network = network or (lambda x, t: torch.tanh(x @ mixing + 0.01 * t))

    class Net(torch.nn.Module):
        def forward(self, x, t):
            return network(x, t)

    denoiser = NetworkDenoiser(Net(), schedule, prediction)
    steps = 0
    for step in sampler(denoiser, noise(), noise):
        prev_sample, x0_hat = reference(network(step.x_t, step.t), step.t, step.x_t)
        assert torch.allclose(step.x0_hat, x0_hat, rtol=1e-5, atol=1e-5), step.t
        assert torch.allclose(step.x_next, prev_sample, rtol=1e-5, atol=1e-5), step.t
        steps += 1
    return steps


# In float32, as diffusers computes them, the paper's alpha bars last 100 timesteps; in float64, all 1000.
SCHEDULES = {
    "paper's betas, 100 timesteps, float32": (linear(100, 0.001, 0.2), False),
    "paper's betas, 1000 timesteps, float64": (linear(1000, 0.001, 0.2), True),
    "cosine": (cosine(200), True),
}


def betas(schedule):
    before = [1.0, *schedule.alpha_bar[:-1]]
    return [1 - now / then for now, then in zip(schedule.alpha_bar, before, strict=True)]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("respaced", [False, True], ids=["full", "respaced"])
def test_ancestral_is_diffusers_ddpm(same_noise, name, variance, respaced):
    schedule, float64 = SCHEDULES[name]
    steps = 37 if respaced else None
    scheduler = DDPMScheduler(
        len(schedule),
        trained_betas=betas(schedule),
        variance_type=f"fixed_{variance}",
        clip_sample=False,
        timestep_spacing="linspace",
    )
    if float64:
        exact(scheduler, schedule)
    sampler = Ancestral(variance, steps)
    if respaced:
        scheduler.set_timesteps(steps)
        assert tuple(scheduler.timesteps.tolist()) == sampler.timesteps(schedule)
    done = compare(sampler, schedule, same_noise, lambda out, t, x: scheduler.step(out, t, x, return_dict=False))
    assert done == (steps or len(schedule))


@pytest.mark.parametrize(("ours", "theirs"), [("x0", "sample"), ("v", "v_prediction")])
def test_ancestral_is_diffusers_ddpm_for_every_prediction(same_noise, ours, theirs):
    scheduler = DDPMScheduler(50, beta_end=0.2, clip_sample=False, prediction_type=theirs)
    schedule = from_diffusers(scheduler)

    def reference(out, t, x):
        return scheduler.step(out, t, x, return_dict=False)

    assert compare(Ancestral("small"), schedule, same_noise, reference, ours) == 50


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("respaced", [False, True], ids=["full", "respaced"])
def test_ddim_is_diffusers_ddim(same_noise, name, eta, respaced):
    """Each respaced gap is given to `diffusers`, whose own previous timestep is not always one it visits."""
    schedule, float64 = SCHEDULES[name]
    total = len(schedule)
    scheduler = DDIMScheduler(total, trained_betas=betas(schedule), clip_sample=False)
    if float64:
        exact(scheduler, schedule)
    sampler = DDIM(eta, 37 if respaced else None)
    visited = sampler.timesteps(schedule)
    following = dict(zip(visited, (*visited[1:], CLEAN), strict=True))

    def reference(output, t, x):
        class Gap:
            """num_train_timesteps // num_inference_steps is how `diffusers` finds the gap."""

            def __rfloordiv__(self, _):
                return t - following[t]

        scheduler.num_inference_steps = Gap()
        return scheduler.step(output, t, x, eta=eta, return_dict=False)

    assert compare(sampler, schedule, same_noise, reference) == len(visited)


def test_ddim_with_eta_one_is_ancestral_with_the_posterior_variance(schedule):
    visited = Ancestral().timesteps(schedule)
    for t, u in pairwise(visited):
        assert DDIM(1.0).transition(schedule, t, u) == pytest.approx(
            Ancestral("small").transition(schedule, t, u), rel=1e-9
        )


@pytest.mark.parametrize("sampler", [Ancestral("large"), Ancestral("small", 7), DDIM(0.0, 5), DDIM(1.0)], ids=str)
def test_steps_form_one_chain_that_ends_at_the_last_prediction(schedule, uneven, sampler):
    noise = Recorded((8, 1))
    x_T = noise()
    steps = list(sampler(MixtureDenoiser(uneven, schedule), x_T, noise))
    visited = sampler.timesteps(schedule)
    assert [step.t for step in steps] == list(visited)
    assert [step.index for step in steps] == list(range(len(visited)))
    assert steps[0].x_t is x_T
    assert all(before.x_next is after.x_t for before, after in pairwise(steps))
    assert torch.allclose(steps[-1].x_next, steps[-1].x0_hat, rtol=1e-12, atol=0)
    draws = 0 if isinstance(sampler, DDIM) and sampler.eta == 0 else len(visited) - 1
    assert len(noise.drawn) == 1 + draws  # one for x_T, one for every step but the last


def test_a_step_leaves_what_it_was_given_unchanged(schedule, modes):
    """A consumer may keep x_t and x0_hat of an earlier step."""
    noise = Recorded((8, 1))
    kept = [(s, s.x_t.clone(), s.x0_hat.clone()) for s in Ancestral()(MixtureDenoiser(modes, schedule), noise(), noise)]
    assert all(torch.equal(s.x_t, x_t) and torch.equal(s.x0_hat, x0_hat) for s, x_t, x0_hat in kept)


class Louder(Sampler):
    steps = 7

    def transition(self, schedule, t, u):
        c_x, c_0, std = Ancestral().transition(schedule, t, u)
        return c_x, c_0, 1.5 * std


def test_an_own_sampler_needs_only_its_transition(schedule, modes):
    """Its chain is Ancestral's, given noise 1.5 times as large."""
    denoiser, noise = MixtureDenoiser(modes, schedule), Recorded((8, 1))
    own = list(Louder()(denoiser, noise(), noise))
    drawn = iter(noise.drawn)
    scaled = Ancestral(steps=7)(denoiser, next(drawn), lambda: 1.5 * next(drawn))
    for step, reference in zip(own, scaled, strict=True):
        assert (step.t, step.index, step.steps, step.level) == (
            reference.t,
            reference.index,
            reference.steps,
            reference.level,
        )
        assert torch.allclose(step.x_next, reference.x_next, rtol=1e-12, atol=1e-12)


def test_a_sampler_without_steps_visits_every_timestep_and_prints_its_settings(schedule):
    class Scaled(Sampler):
        def __init__(self, factor):
            self.factor = factor

    assert Scaled(2.0).timesteps(schedule) == tuple(range(39, -1, -1))
    assert repr(Scaled(2.0)).endswith("Scaled(steps=None, factor=2.0)")
    assert repr(Louder()) == "Louder(steps=7)"
    with pytest.raises(NotImplementedError):
        Scaled(2.0).transition(schedule, 1, 0)


class Spy(Denoiser):
    """Remembers its conditions and whether gradients were on."""

    def __init__(self, schedule):
        self.schedule, self.seen = schedule, []

    def __call__(self, x_t, t, **condition):
        self.seen.append((t, condition, torch.is_grad_enabled()))
        return 0.5 * x_t


@pytest.mark.parametrize("sampler", [Ancestral(), DDIM()], ids=["ancestral", "ddim"])
def test_sampling_passes_the_condition_on_and_records_no_gradients(schedule, sampler):
    spy = Spy(schedule)
    for step in sampler(spy, torch.ones(2, 1, requires_grad=True), Recorded((2, 1)), label=4):
        assert not step.x_next.requires_grad
    assert spy.seen == [(t, {"label": 4}, False) for t in range(39, -1, -1)]


def test_the_chain_is_lazy(schedule):
    """Nothing is computed before it is asked for, so a consumer can stop early."""
    spy = Spy(schedule)
    steps = Ancestral()(spy, torch.ones(2, 1), Recorded((2, 1)))
    next(steps)
    assert len(spy.seen) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ancestral("learned"), "learned.*large or small"),
        (lambda: DDIM(-0.1), r"0\.\.1"),
        (lambda: DDIM(1.1), r"0\.\.1"),
        (lambda: DDIM(float("nan")), r"0\.\.1"),
    ],
)
def test_bad_samplers_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("steps", [None, 7])
def test_a_chain_begins_where_it_is_told_and_goes_on_as_the_whole_one(steps):
    schedule, sampler = linear(30), Ancestral("small", steps)
    denoiser = MixtureDenoiser(line(), schedule)
    whole = list(sampler(denoiser, torch.randn(5, 1, dtype=torch.float64), Recorded((5, 1))))
    begin = whole[3]
    again = Recorded((5, 1))
    for _ in range(3):
        again()
    rest = list(sampler(denoiser, begin.x_t, again, start=begin.t))
    assert [step.t for step in rest] == [step.t for step in whole[3:]]
    assert torch.equal(rest[-1].x_next, whole[-1].x_next)
    assert [step.index for step in rest] == list(range(len(rest)))
    assert {step.steps for step in rest} == {len(rest)}
    between = [step.t for step in sampler(denoiser, begin.x_t, again, start=begin.t - 1)]
    assert between == [begin.t - 1, *(step.t for step in whole[3:] if step.t < begin.t - 1)]


@pytest.mark.parametrize("start", [-1, 30])
def test_a_chain_that_begins_outside_the_schedule_is_refused(start):
    denoiser = MixtureDenoiser(line(), linear(30))
    with pytest.raises(InputError, match=rf"^start: {start} is outside 0\.\.29, the timesteps$"):
        next(Ancestral()(denoiser, torch.zeros(1, 1), Recorded((1, 1)), start=start))
