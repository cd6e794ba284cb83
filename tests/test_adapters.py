"""Loops that are not ours: k-diffusion's callback and azula's denoiser, by their documented interfaces."""

import itertools
import re
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import intermode
import intermode.integrations.azula
import intermode.integrations.k_diffusion
from intermode import integrations
from intermode.denoisers import MixtureDenoiser
from intermode.detect.hal import Hal, HalRenoise
from intermode.detect.window import SNR, Fraction, Window
from intermode.errors import InputError
from intermode.integrations.azula import AzulaDenoiser
from intermode.integrations.k_diffusion import Callback
from intermode.noise import NoiseStream
from intermode.samplers import DDIM
from intermode.sampling import Plan, generate, score
from intermode.schedules import Schedule
from intermode.targets.gaussian import line

MIXTURE = line([1.0, 2.0, 3.5], [0.05, 0.1, 0.03], [0.2, 0.7, 0.1])
SIGMAS = torch.cat([torch.linspace(np.log(20), np.log(0.02), 30).exp(), torch.zeros(1)])


def denoise(x, sigma):
    """The ideal denoiser in sigma space: k-diffusion's model, called with a sigma for each sample."""
    return MIXTURE.posterior_mean(x, 1.0, float(sigma[0]))


def sample_euler(model, x, sigmas, callback=None, churn=0.0):
    """Karras et al. 2022, algorithm 2, with the callback of k-diffusion's samplers."""
    for i in range(len(sigmas) - 1):
        sigma_hat = sigmas[i] * (1 + churn)
        x = x + torch.randn_like(x) * (sigma_hat**2 - sigmas[i] ** 2) ** 0.5
        denoised = model(x, sigma_hat * x.new_ones(len(x)))
        if callback is not None:
            callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigma_hat, "denoised": denoised})
        x = x + (x - denoised) / sigma_hat * (sigmas[i + 1] - sigma_hat)
    return x


class Steps:
    name = description = "steps"

    def check(self, schedule, timesteps):
        self.planned = [schedule.level(t) for t in timesteps]

    def start(self, shape):
        self.steps = []

    def update(self, step):
        self.steps.append(step)

    def score(self):
        return torch.zeros(len(self.steps[0].x_t), dtype=torch.float64)


def noise(n, seed=0):
    return SIGMAS[0] * torch.randn(n, 1, generator=torch.Generator().manual_seed(seed))


def test_k_diffusion_steps_are_in_our_scale():
    recorded = Steps()
    callback = Callback([recorded], SIGMAS)
    x = sample_euler(denoise, noise(5), SIGMAS, callback)
    callback.finish(x)
    steps = recorded.steps
    assert [step.index for step in steps] == list(range(30))
    assert [step.t for step in steps] == list(range(30))[::-1]
    for step, planned, sigma in zip(steps, recorded.planned, SIGMAS.tolist(), strict=False):
        a, s = step.level
        assert np.allclose([s / a, a**2 + s**2], [sigma, 1])
        assert np.allclose(planned, step.level)
        assert torch.allclose(step.x0_hat, MIXTURE.posterior_mean(step.x_t, a, s), atol=1e-5)
        assert step.steps == 30
    for step, after in itertools.pairwise(steps):
        assert torch.equal(step.x_next, after.x_t)
    assert torch.equal(steps[-1].x_next, x)


def test_k_diffusion_scores_are_those_of_our_ddim():
    """Euler in sigma space is DDIM (Song et al. 2021, section 4.3) on the schedule with the same levels."""
    a = 1 / np.hypot(1, SIGMAS[:-1].double().numpy()[::-1])
    schedule = Schedule(a, np.sqrt(1 - a**2))
    window = SNR(0.3, 500.0)
    ours = generate(MixtureDenoiser(MIXTURE, schedule), DDIM(), Plan(40, (1,), chunk=40), [Hal(window=window)])
    x = NoiseStream(0, 0, 40, (1,))() / a[-1]
    callback = Callback([Hal(window=window), Hal(window=Fraction(0.5, 1), name="late")], SIGMAS)
    x = sample_euler(denoise, x, SIGMAS, callback)
    callback.finish(x)
    assert torch.allclose(x, ours.x, rtol=1e-3, atol=1e-4)
    assert np.allclose(callback.scores["hal"], ours.scores["hal"], rtol=1e-2, atol=1e-8)
    assert callback.scores["late"].shape == (40,)


def test_k_diffusion_counts_the_noise_that_was_added_before_the_network_looked():
    recorded = Steps()
    callback = Callback([recorded], SIGMAS)
    callback.finish(sample_euler(denoise, noise(5), SIGMAS, callback, churn=0.1))
    a, s = np.array([step.level for step in recorded.steps]).T
    assert np.allclose(s / a, 1.1 * SIGMAS[:-1].numpy())


def test_k_diffusion_rows_are_those_of_finished_calls():
    callback = Callback([Hal(window=Fraction(0, 1))], SIGMAS)
    expected = []
    for seed, size in ((0, 3), (1, 2)):
        single = Callback([Hal(window=Fraction(0, 1))], SIGMAS)
        for each in (callback, single):
            each.finish(sample_euler(denoise, noise(size, seed), SIGMAS, each))
        expected.append(single.scores["hal"])
        sample_euler(denoise, noise(4, 9), SIGMAS[:6], callback)  # stops early
        with pytest.raises(InputError, match="not called back for the last"):
            callback.finish(torch.zeros(4, 1))
    assert np.array_equal(callback.scores["hal"], np.concatenate(expected))


def test_k_diffusion_has_no_timesteps_and_needs_falling_sigmas():
    with pytest.raises(InputError, match="Fraction"):
        Callback([Hal(0, 15)], SIGMAS)
    with pytest.raises(InputError, match="at least 2"):
        Callback([Hal(window=SNR(1e8, 1e9))], SIGMAS)
    for sigmas in (SIGMAS.flip(0), SIGMAS[:2], SIGMAS[None]):
        with pytest.raises(InputError, match="sigmas"):
            Callback([Hal(window=Fraction(0, 1))], sigmas)


@pytest.mark.parametrize("name", ["sample_euler", "sample_euler_ancestral", "sample_heun", "sample_dpmpp_2m"])
def test_k_diffusion_itself(name):
    sampling = pytest.importorskip("k_diffusion.sampling", exc_type=ImportError)
    recorded = Steps()
    callback = Callback([recorded], SIGMAS)
    callback.finish(getattr(sampling, name)(denoise, noise(5), SIGMAS, callback=callback, disable=True))
    assert len(recorded.steps) == 30
    for step in recorded.steps:
        assert torch.allclose(step.x0_hat, MIXTURE.posterior_mean(step.x_t, *step.level), atol=1e-5)


# azula


class IdealDenoiser(torch.nn.Module):
    """What azula documents of a denoiser: a schedule, a call with x_t and t in 0..1, and a posterior with a mean."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def schedule(self, t):
        alpha_bar = torch.cos((t + 0.008) / 1.008 * torch.pi / 2) ** 2 * 0.999 + 1e-6
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def forward(self, x_t, t, **condition):
        self.calls.append((t, condition))
        alpha, sigma = (float(level) for level in self.schedule(t.double().reshape(-1)[0]))
        return SimpleNamespace(mean=MIXTURE.posterior_mean(x_t, alpha, sigma))


def test_an_azula_denoiser_is_a_denoiser():
    denoiser = AzulaDenoiser(IdealDenoiser(), timesteps=50)
    assert len(denoiser.schedule) == 50
    x = torch.randn(6, 1)
    for t in (0, 20, 49):
        a, s = (float(level) for level in IdealDenoiser().schedule(torch.tensor((t + 1) / 50, dtype=torch.float64)))
        assert np.allclose(denoiser.schedule.level(t), (a, s))
        assert torch.allclose(denoiser(x, t), MIXTURE.posterior_mean(x, a, s), atol=1e-4)
    assert torch.allclose(denoiser(x, torch.full((6,), 20)), denoiser(x, 20))
    denoiser(x, 3, label=7)
    assert denoiser.denoiser.calls[-1][1] == {"label": 7}


def test_azula_scores_are_those_of_the_same_model_made_here():
    theirs = AzulaDenoiser(IdealDenoiser(), timesteps=50)
    ours = MixtureDenoiser(MIXTURE, theirs.schedule)
    plan = Plan(20, (1,), chunk=20)
    found, expected = (generate(d, DDIM(), plan, [Hal(0, 20)]) for d in (theirs, ours))
    assert np.allclose(found.scores["hal"], expected.scores["hal"], rtol=1e-2)
    found, expected = (score(HalRenoise(0, 20, 5), d, expected.x, chunk=20) for d in (theirs, ours))
    assert np.allclose(found, expected, rtol=1e-2, atol=1e-9)


def test_azula_denoisers_are_sampled_in_the_shape_that_they_are_given():
    plain, shaped = AzulaDenoiser(IdealDenoiser(), 50), AzulaDenoiser(IdealDenoiser(), 50, shape=[1])
    with pytest.raises(InputError, match="AzulaDenoiser does not say the shape"):
        intermode.sample(plain, 4)
    drawn = intermode.sample(shaped, 4, sampler=DDIM(), detectors=Hal(0, 20))
    expected = generate(plain, DDIM(), Plan(4, (1,), chunk=4), [Hal(0, 20)])
    assert torch.equal(drawn.x, expected.x)
    assert np.array_equal(drawn.scores["hal"], expected.scores["hal"])


def test_azula_denoisers_are_told_apart_by_schedule_and_weights():
    def identity(bias, timesteps=20):
        theirs = IdealDenoiser()
        theirs.bias = torch.nn.Parameter(torch.tensor(bias))
        return AzulaDenoiser(theirs, timesteps).identity

    assert identity(1.0) == identity(1.0)
    assert identity(1.0) != identity(2.0)
    assert identity(1.0) != identity(1.0, timesteps=21)


def test_azula_timesteps_outside_are_refused():
    denoiser = AzulaDenoiser(IdealDenoiser(), timesteps=50)
    with pytest.raises(InputError, match="t: 50"):
        denoiser(torch.randn(2, 1), 50)
    flat = IdealDenoiser()
    flat.schedule = lambda t: (1 - t, t)
    with pytest.raises(InputError, match="schedule"):
        AzulaDenoiser(flat)


@pytest.mark.parametrize("schedule", ["VPSchedule", "VESchedule", "CosineSchedule", "RectifiedSchedule"])
def test_azula_itself(schedule):
    pytest.importorskip("azula.denoise", exc_type=ImportError)
    from azula.denoise import KarrasDenoiser
    from azula.noise import CosineSchedule, RectifiedSchedule, VESchedule, VPSchedule

    class Backbone(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)

        def forward(self, x, t):
            return self.layer(x) + t.reshape(-1, 1)

    kind = {k.__name__: k for k in (CosineSchedule, RectifiedSchedule, VESchedule, VPSchedule)}[schedule]
    theirs = KarrasDenoiser(Backbone(), kind())
    denoiser = AzulaDenoiser(theirs, timesteps=20)
    x = torch.randn(5, 2)
    for t in (0, 10, 19):
        time = torch.tensor((t + 1) / 20)
        for given in (t, torch.full((5,), t)):
            assert torch.allclose(denoiser(x, given), theirs(x, time).mean, rtol=1e-4, atol=1e-5)
        assert np.allclose(denoiser.schedule.level(t), [float(level) for level in theirs.schedule(time)], rtol=1e-4)
    found = generate(denoiser, DDIM(), Plan(4, (2,), chunk=4), [Hal(window=Fraction(0, 1))])
    assert found.scores["hal"].shape == (4,)


def test_windows_of_timesteps_are_those_of_an_azula_denoisers_schedule():
    with pytest.raises(InputError, match="window"):
        Window(0, 50).check(AzulaDenoiser(IdealDenoiser(), timesteps=50).schedule, range(50))


# what the modules say of themselves


@pytest.mark.parametrize(
    "module", [integrations, integrations.k_diffusion, integrations.azula], ids=lambda m: m.__name__
)
def test_the_example_that_a_module_opens_with_runs(module):
    blocks = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", module.__doc__)
    assert len(blocks) == 1
    names = {
        "intermode": intermode,
        "k_diffusion": SimpleNamespace(sampling=SimpleNamespace(sample_euler=sample_euler)),
        "model": denoise,
        "sigmas": SIGMAS,
        "x": noise(8),
        "azula": SimpleNamespace(denoise=SimpleNamespace(KarrasDenoiser=lambda backbone, schedule: IdealDenoiser())),
        "backbone": None,
        "schedule": None,
    }
    exec(textwrap.dedent(blocks[0]), names)
    scores = names["samples"].scores["hal"] if "samples" in names else names["scores"]
    assert tuple(scores.shape) == (8,)
    assert (np.asarray(scores) > 0).all()
