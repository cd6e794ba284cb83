"""Real pipelines, watched: one row for each image, in order, and pipelines that never notice."""

import copy
import inspect
import warnings
import weakref
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import tiny_pipelines as tiny
import torch

import intermode
from intermode.denoisers import NetworkDenoiser
from intermode.detect.hal import Hal, HalRenoise
from intermode.detect.window import IMAGE_WINDOW, SNR, Fraction, Window
from intermode.errors import InputError
from intermode.models import load_model, shipped
from intermode.networks.unet import PatchUNet2DModel
from intermode.noise import NoiseStream
from intermode.samplers import Ancestral
from intermode.sampling import Plan, generate
from intermode.schedules import cosine, from_diffusers

ALL = Fraction(0, 1)


class Steps:
    """A detector that keeps what x0_hat was at every step."""

    def __init__(self, name="steps"):
        self.name = self.description = name
        self.x0_hats = []

    def check(self, schedule, timesteps):
        pass

    def start(self, shape):
        self.x0_hats = []

    def update(self, step):
        self.x0_hats.append(step.x0_hat)

    def score(self):
        return torch.arange(len(self.x0_hats[0]), dtype=torch.float64)


class Failing(Steps):
    def update(self, step):
        if step.index == 1:
            raise RuntimeError("broken detector")
        super().update(step)


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def hal_of(x0_hats):
    stored = torch.stack(x0_hats).double().numpy()
    return stored.var(axis=0).reshape(stored.shape[1], -1).mean(axis=1)


# the same numbers as our own sampler


@pytest.mark.parametrize("variance", ["small", "large"])
def test_scores_are_those_of_our_own_sampler_for_the_same_noise(variance, monkeypatch):
    torch.manual_seed(0)
    network = PatchUNet2DModel(sample_size=8, patch=2, channels=(32,)).eval()
    scheduler = diffusers.DDPMScheduler(
        timestep_spacing="linspace", clip_sample=False, variance_type=f"fixed_{variance}", beta_schedule="scaled_linear"
    )
    pipe = tiny.quiet(diffusers.DDPMPipeline(network, scheduler))
    noise = NoiseStream(3, 0, 4, network.shape)
    for module in ("schedulers.scheduling_ddpm", "pipelines.ddpm.pipeline_ddpm"):
        monkeypatch.setattr(f"diffusers.{module}.randn_tensor", lambda *_, **__: noise())
    windows = {"times": Window(0, 400), "part": Fraction(0.6, 1), "ratio": SNR(0.2, 50)}
    with intermode.watch(pipe, [Hal(window=window, name=name) for name, window in windows.items()]) as watched:
        images = pipe(batch_size=4, num_inference_steps=25, output_type="np").images
    denoiser = NetworkDenoiser(network, from_diffusers(scheduler))
    ours = generate(
        denoiser,
        Ancestral(variance=variance, steps=25),
        Plan(4, network.shape, seed=3, chunk=4),
        [Hal(window=window, name=name) for name, window in windows.items()],
    )
    for name in windows:
        assert np.allclose(watched.scores[name], ours.scores[name], rtol=1e-4, atol=0), name
        assert watched.scores[name].dtype == np.float64
    assert len(np.unique(watched.scores["part"])) == 4
    assert np.allclose(images, ((ours.x + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1).numpy(), atol=1e-4)


def test_the_shipped_model_of_shapes_is_a_pipeline_whose_scores_are_ours(monkeypatch):
    folder = shipped("shapes", cosine(1000), "shapes")
    pipe = tiny.quiet(diffusers.DDPMPipeline.from_pretrained(folder))
    denoiser = load_model(folder)
    noise = NoiseStream(5, 0, 2, denoiser.shape)
    for module in ("schedulers.scheduling_ddpm", "pipelines.ddpm.pipeline_ddpm"):
        monkeypatch.setattr(f"diffusers.{module}.randn_tensor", lambda *_, **__: noise())
    with intermode.watch(pipe, [Hal(window=ALL)]) as watched:
        images = pipe(batch_size=2, num_inference_steps=20, output_type="np").images
    ours = generate(denoiser, Ancestral("small", 20), Plan(2, denoiser.shape, seed=5, chunk=2), [Hal(window=ALL)])
    assert np.allclose(watched.scores["hal"], ours.scores["hal"], rtol=2e-3)
    assert np.allclose(images[..., 0], ((ours.x[:, 0] + 1) / 2).clamp(0, 1).numpy(), atol=2e-3)
    # and it draws shapes: bright ones on black
    assert 0.003 < (images > 0.5).mean() < 0.06


# however it is asked for


def sampled_twice(pipe, detectors):
    with intermode.watch(pipe, detectors) as watched:
        pipe(batch_size=2, generator=seeded(0, 1), num_inference_steps=50)
    return watched.scores


@pytest.mark.parametrize(
    ("detectors", "same"),
    [
        ("hal", Hal(window=IMAGE_WINDOW)),
        (["hal"], Hal(window=IMAGE_WINDOW)),
        (Hal(100, 700), Hal(window=Window(100, 700))),
        (Hal(window=(100, 700)), Hal(window=Window(100, 700))),
        (Hal(window=SNR(0.1, 5)), Hal(window=SNR(0.1, 5))),
    ],
    ids=["name", "names", "object", "pair", "SNR"],
)
def test_a_detector_is_an_object_a_name_or_several(detectors, same):
    found, expected = (sampled_twice(tiny.ddpm(), given) for given in (detectors, [same]))
    assert list(found) == ["hal"]
    assert np.array_equal(found["hal"], expected["hal"])


def test_names_and_objects_beside_each_other():
    found = sampled_twice(tiny.ddpm(), ["hal", Hal(window=ALL, name="all"), Steps()])
    assert list(found) == ["hal", "all", "steps"]


@pytest.mark.parametrize(
    ("detectors", "message"),
    [
        (HalRenoise(100, 150), "^hal-renoise: scores finished images; use score$"),
        ("lid", "^lid: scores finished images; use score$"),
        (["hal", "residual"], "^residual: scores finished images; use score$"),
        ("hall", "unknown 'hall'; did you mean hal"),
        (3, "int has no name"),
        ([Hal(), Hal()], "repeat"),
        ([], "none"),
    ],
)
def test_detectors_that_cannot_watch_are_refused_in_a_line(detectors, message):
    with pytest.raises(InputError, match=message) as caught:
        intermode.watch(tiny.ddpm(), detectors)
    assert "\n" not in str(caught.value)


def test_a_misspelt_argument_is_told():
    with pytest.raises(InputError, match="detector: is no argument of watch; did you mean detectors"):
        intermode.watch(tiny.ddpm(), detector="hal")


def test_a_scheduler_alone_is_watched_in_ones_own_loop():
    pipe = tiny.ddim()
    with intermode.watch(pipe, Hal(window=ALL)) as expected:
        images = pipe(batch_size=2, generator=seeded(0, 1), num_inference_steps=10, output_type="pt").images
    scheduler = diffusers.DDIMScheduler()
    scheduler.set_timesteps(10)
    with intermode.watch(scheduler, Hal(window=ALL)) as watched, torch.no_grad():
        x = torch.cat([torch.randn(1, 1, 8, 8, generator=generator) for generator in seeded(0, 1)])
        for t in scheduler.timesteps:
            x = scheduler.step(pipe.unet(x, t).sample, t, x).prev_sample
    assert "step" not in vars(scheduler)
    assert np.allclose((x / 2 + 0.5).clamp(0, 1), images, atol=1e-5)
    assert np.allclose(watched.scores["hal"], expected.scores["hal"], rtol=1e-4)
    with pytest.raises(InputError, match="DDIMScheduler has no VAE"):
        intermode.watch(scheduler, decode=ALL)


# which images to keep


def test_keep_gives_the_lowest_and_says_how_many():
    pipe = tiny.ddpm()
    with intermode.watch(pipe, [Steps(), Hal(window=ALL)]) as watched:
        pipe(batch_size=8, generator=torch.Generator().manual_seed(0), num_inference_steps=4)
    kept = watched.keep(0.75)
    assert str(kept) == "6 of 8 kept (75 %): steps up to 5"
    assert kept.tolist() == [True] * 6 + [False] * 2
    hal = watched.scores["hal"]
    assert np.array_equal(watched.keep(0.5, by="hal"), hal <= np.sort(hal)[3])
    limit = intermode.Threshold(float(np.sort(hal)[1]), score="hal")
    assert str(watched.keep(limit)).startswith("2 of 8 kept (25 %): hal up to")
    with pytest.warns(UserWarning, match="keeps all 8") as told:
        assert watched.keep(0.9).all()
    assert told[0].filename == __file__
    with pytest.raises(InputError, match="choose from steps, hal"):
        watched.keep(0.5, by="lid")


def test_nothing_is_kept_before_an_image_is_watched():
    with pytest.raises(InputError, match="scores: there are none"):
        intermode.watch(tiny.ddpm()).keep(0.9)


# rows belong to images


@pytest.mark.parametrize("make", [tiny.ddpm, tiny.ddim])
def test_rows_are_in_the_order_of_the_images_over_several_calls(make):
    pipe = make()
    with intermode.watch(pipe, [Hal(window=ALL)]) as watched:
        pipe(batch_size=2, generator=seeded(0, 1), num_inference_steps=4)
        pipe(batch_size=3, generator=seeded(2, 3, 4), num_inference_steps=4)
    together = watched.scores["hal"]
    assert together.shape == (5,)
    assert len(np.unique(together)) == 5
    for seed in (1, 3):
        with watched:
            pipe(generator=seeded(seed), num_inference_steps=4)
        assert np.allclose(watched.scores["hal"], together[seed], rtol=1e-4)  # entered again: a table of its own


@pytest.mark.parametrize("make", [tiny.stable_diffusion, tiny.stable_diffusion_3], ids=["SD", "SD3, flow matching"])
def test_text_to_image_with_guidance_and_several_images_per_prompt(make, tmp_path):
    pytest.importorskip("transformers")
    pipe = make(tmp_path)
    size = {"height": 16, "width": 16, "num_inference_steps": 5, "guidance_scale": 4.0, "output_type": "np"}
    with intermode.watch(pipe, [Hal(window=ALL)]) as watched:
        images = pipe(["a red square", "a blue circle"], num_images_per_prompt=2, generator=seeded(0, 1, 2, 3), **size)
    scores = watched.scores["hal"]
    assert scores.shape == (len(images.images),) == (4,)
    with watched:
        again = pipe("a blue circle", generator=seeded(2), **size)
    assert np.allclose(again.images[0], images.images[2], atol=1e-3)
    assert np.allclose(watched.scores["hal"], scores[2], rtol=1e-3)
    assert not np.allclose(scores[2], np.delete(scores, 2), rtol=1e-2)


@pytest.mark.parametrize(("guidance", "steps"), [(4.0, 5), (1.0, 5)])
def test_the_doubled_batch_of_dit_gives_one_row_for_an_image(guidance, steps):
    pipe = tiny.dit()
    recorded = Steps()
    with intermode.watch(pipe, [Hal(window=ALL), recorded]) as watched:
        images = pipe(
            [1, 2, 3, 4],
            guidance_scale=guidance,
            generator=torch.Generator().manual_seed(0),
            num_inference_steps=steps,
            output_type="np",
        )
    assert watched.scores["hal"].shape == (len(images.images),) == (4,)
    assert len(np.unique(watched.scores["hal"])) == 4
    # the last x0_hat, decoded, is the image that is returned
    with torch.no_grad():
        decoded = pipe.vae.decode(recorded.x0_hats[-1].clamp(-1, 1) / pipe.vae.config.scaling_factor).sample
    expected = (decoded / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    assert np.allclose(images.images, expected, atol=0.1)


@pytest.mark.parametrize("make", [tiny.stable_diffusion, tiny.stable_diffusion_3], ids=["scaling", "scaling and shift"])
def test_decoding_shows_the_chosen_steps_as_the_pipeline_would(make, tmp_path):
    pytest.importorskip("transformers")
    pipe = make(tmp_path)
    latents, pixels, last = Steps(), Steps(), Fraction(0.5, 1)
    with (
        intermode.watch(pipe, [latents]),
        intermode.watch(pipe, [Hal(window=last), pixels], decode=last) as watched,
    ):
        pipe(
            "a red square", num_images_per_prompt=2, height=16, width=16, num_inference_steps=6, generator=seeded(0, 1)
        )
    assert (len(latents.x0_hats), len(pixels.x0_hats)) == (6, 3)
    config = pipe.vae.config
    with torch.no_grad():
        expected = [
            pipe.vae.decode(x / config.scaling_factor + (config.shift_factor or 0)).sample for x in latents.x0_hats[3:]
        ]
    for image, exact in zip(pixels.x0_hats, expected, strict=True):
        assert image.shape == (2, 3, 16, 16)
        assert torch.allclose(image, exact, atol=1e-4)
    assert np.allclose(watched.scores["hal"], hal_of(expected), rtol=1e-3)


# the pipeline does not notice


def test_images_and_schedulers_are_as_without_watching():
    pipe = tiny.ddpm()
    before, attributes = inspect.signature(pipe.scheduler.step), set(vars(pipe.scheduler))
    images = pipe(batch_size=2, generator=seeded(0, 1), num_inference_steps=4, output_type="np").images
    with intermode.watch(pipe, [Hal(window=ALL)]):
        assert inspect.signature(pipe.scheduler.step) == before  # pipelines look for eta and generator in it
        watched = pipe(batch_size=2, generator=seeded(0, 1), num_inference_steps=4, output_type="np").images
    assert np.array_equal(watched, images)
    assert set(vars(pipe.scheduler)) == attributes


@pytest.mark.parametrize("inner_first", [True, False])
def test_nested_watches_see_the_same_and_may_end_in_any_order(inner_first):
    pipe = tiny.ddpm()
    first, second = (intermode.watch(pipe, [Hal(window=ALL)]) for _ in range(2))
    first.__enter__()
    pipe(generator=seeded(0), num_inference_steps=4)
    second.__enter__()
    pipe(generator=seeded(1), num_inference_steps=4)
    leaving, staying = (second, first) if inner_first else (first, second)
    leaving.__exit__(None, None, None)
    pipe(generator=seeded(2), num_inference_steps=4)
    staying.__exit__(None, None, None)
    assert "step" not in vars(pipe.scheduler)
    rows = {id(watched): watched.scores["hal"] for watched in (first, second)}
    assert len(rows[id(first)]) == (3 if inner_first else 2)
    assert len(rows[id(second)]) == (1 if inner_first else 2)
    assert rows[id(first)][1] == rows[id(second)][0]


def test_somebody_elses_patch_of_step_is_kept_and_used():
    pipe, calls = tiny.ddpm(), []
    original = pipe.scheduler.step

    def patched(*args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    pipe.scheduler.step = patched
    with intermode.watch(pipe, [Hal(window=ALL)]):
        pipe(num_inference_steps=4)
    assert pipe.scheduler.step is patched
    assert len(calls) == 4


def test_a_deep_copy_of_the_scheduler_steps_itself_unwatched():
    """Some pipelines sample a second thing with one."""
    scheduler = diffusers.EulerDiscreteScheduler()
    pipe = SimpleNamespace(scheduler=scheduler)
    scheduler.set_timesteps(4)
    x = torch.randn(2, 1, 4, 4)
    with intermode.watch(pipe, [Steps()]) as watched:
        other = copy.deepcopy(scheduler)
        for t in scheduler.timesteps:
            scheduler.scale_model_input(x, t)
            other.scale_model_input(x, t)
            copied = other.step(x, t, x).prev_sample
            assert torch.equal(copied, scheduler.step(x, t, x).prev_sample)
            assert other.step_index == scheduler.step_index
    assert watched.scores["steps"].shape == (2,)


def fail_at(call):
    calls = []

    def hook(*_):
        calls.append(1)
        if len(calls) == call:
            raise RuntimeError("broken network")

    return hook


@pytest.mark.parametrize(("broken_at", "detector"), [(6, Steps), (99, Failing)], ids=["network", "detector"])
def test_an_exception_puts_the_scheduler_back_and_keeps_finished_rows(broken_at, detector):
    pipe, finished = tiny.ddpm(), detector is Steps
    pipe.unet.register_forward_hook(fail_at(broken_at))
    watched = intermode.watch(pipe, [detector()])

    def sample():
        for size in (2, 3):
            pipe(batch_size=size, num_inference_steps=4)

    with pytest.raises(RuntimeError, match="broken"), watched:
        sample()
    assert "step" not in vars(pipe.scheduler)
    if finished:
        assert watched.scores["steps"].shape == (2,)
    else:
        with pytest.raises(InputError, match="scores"):
            _ = watched.scores


def test_a_call_that_was_cut_short_leaves_no_row_and_a_warning():
    pipe = tiny.ddpm()
    watched, fresh = (intermode.watch(pipe, [Hal(window=ALL)]) for _ in range(2))

    def sample(broken):
        if broken:
            handle = pipe.unet.register_forward_hook(fail_at(2))
            with pytest.raises(RuntimeError, match="broken"):
                pipe(batch_size=3, num_inference_steps=4)
            handle.remove()
        pipe(batch_size=2, generator=seeded(0, 1), num_inference_steps=4)

    with pytest.warns(UserWarning, match="1 of 4 steps"), watched:
        sample(broken=True)
    with fresh:
        sample(broken=False)
    assert watched.scores["hal"].shape == (2,)
    assert np.array_equal(fresh.scores["hal"], watched.scores["hal"])


def test_a_trajectory_that_starts_where_a_broken_one_stopped_is_another():
    """set_timesteps tells them apart, as in image-to-image with a low strength."""
    scheduler, recorded = diffusers.EulerDiscreteScheduler(), Steps()
    x = torch.randn(2, 1, 4, 4)

    def sample(begin, end):
        scheduler.set_timesteps(8)
        scheduler.set_begin_index(begin)
        for t in scheduler.timesteps[begin:end]:
            scheduler.step(scheduler.scale_model_input(x, t), t, x)

    with intermode.watch(SimpleNamespace(scheduler=scheduler), [recorded]) as watched:
        sample(0, 3)
        with pytest.warns(UserWarning, match="3 of 8 steps"):
            sample(3, 8)
    assert len(recorded.x0_hats) == 5
    assert watched.scores["steps"].shape == (2,)


def test_a_loop_that_starts_over_without_set_timesteps_is_another():
    scheduler, recorded = diffusers.DDIMScheduler(), Steps()
    scheduler.set_timesteps(6)
    x = torch.randn(2, 1, 4, 4)

    def sample(steps):
        for t in scheduler.timesteps[:steps]:
            scheduler.step(x, t, x)

    with intermode.watch(SimpleNamespace(scheduler=scheduler), [recorded]) as watched:
        sample(3)
        with pytest.warns(UserWarning, match="3 of 6 steps"):
            sample(6)
    assert len(recorded.x0_hats) == 6
    assert watched.scores["steps"].shape == (2,)


def test_memory_does_not_grow_with_the_steps():
    class Counting(Steps):
        def __init__(self):
            super().__init__()
            self.seen, self.most = [], 0

        def update(self, step):
            self.seen.append(weakref.ref(step.x0_hat))
            self.most = max(self.most, sum(ref() is not None for ref in self.seen))

        def score(self):
            return torch.zeros(1, dtype=torch.float64)

    counting, pipe = Counting(), tiny.ddpm()
    with intermode.watch(pipe, [counting]):
        pipe(num_inference_steps=30)
    assert len(counting.seen) == 30
    assert counting.most <= 2


# schedulers that a pipeline does not work with

SIGMA_SPACE = [
    diffusers.EulerDiscreteScheduler,
    diffusers.EulerAncestralDiscreteScheduler,
    diffusers.HeunDiscreteScheduler,
    diffusers.LMSDiscreteScheduler,
    diffusers.KDPM2DiscreteScheduler,
    diffusers.KDPM2AncestralDiscreteScheduler,
]


@pytest.mark.parametrize("make", [tiny.ddpm, tiny.ddim])
@pytest.mark.parametrize("kind", SIGMA_SPACE)
def test_a_pipeline_that_never_scales_the_input_refuses_samples_in_sigma_space(make, kind):
    pipe, calls = make(), []
    pipe.scheduler = kind()
    pipe.unet.register_forward_hook(lambda *_: calls.append(1))
    with (
        pytest.raises(
            InputError, match=f"{kind.__name__} needs scale_model_input, which {type(pipe).__name__} does not"
        ),
        intermode.watch(pipe, Hal(window=ALL)),
    ):
        pipe(num_inference_steps=10)
    assert len(calls) == 1
    assert "step" not in vars(pipe.scheduler)


def test_every_call_is_looked_at_and_not_only_the_first():
    scheduler = diffusers.EulerDiscreteScheduler()
    x = torch.randn(2, 1, 4, 4)

    def sample(scale):
        scheduler.set_timesteps(4)
        for t in scheduler.timesteps:
            scheduler.step(scheduler.scale_model_input(x, t) if scale else x, t, x)

    with intermode.watch(SimpleNamespace(scheduler=scheduler), Steps()) as watched:
        sample(scale=True)
        with pytest.raises(InputError, match="scale_model_input"):
            sample(scale=False)
        sample(scale=True)
    assert watched.scores["steps"].shape == (4,)


@pytest.mark.parametrize("kind", [diffusers.DPMSolverMultistepScheduler, diffusers.DDIMScheduler])
def test_the_same_pipeline_takes_schedulers_that_keep_x_t(kind):
    pipe = tiny.ddpm()
    pipe.scheduler = kind()
    with intermode.watch(pipe, Hal(window=ALL)) as watched:
        pipe(num_inference_steps=10)
    assert 0 < watched.scores["hal"][0] < np.inf


@pytest.mark.parametrize("kind", SIGMA_SPACE)
def test_a_pipeline_that_scales_works_with_them(kind, tmp_path):
    pytest.importorskip("transformers")
    pipe = tiny.stable_diffusion(tmp_path, kind())
    with warnings.catch_warnings(), intermode.watch(pipe, Hal(window=ALL)) as watched:
        warnings.simplefilter("error", UserWarning)
        images = pipe("a red square", height=16, width=16, num_inference_steps=5, output_type="np").images
    assert watched.scores["hal"].shape == (len(images),) == (1,)


def test_a_loop_of_ones_own_may_scale_by_itself_and_is_warned():
    def sample(watched, scale):
        scheduler.set_timesteps(5)
        x = torch.ones(2, 1, 4, 4) * scheduler.init_noise_sigma
        with watched:
            for k, t in enumerate(scheduler.timesteps):
                x = scheduler.step(torch.sin(scale(x, k)), t, x).prev_sample
        return watched.scores["hal"]

    scheduler = diffusers.HeunDiscreteScheduler()
    watched = intermode.watch(scheduler, Hal(window=ALL))
    with pytest.warns(UserWarning, match="HeunDiscreteScheduler steps without scale_model_input") as told:
        found = sample(watched, lambda x, k: x / (scheduler.sigmas[k] ** 2 + 1) ** 0.5)
    assert [str(one.filename) for one in told if "without" in str(one.message)] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        expected = sample(watched, lambda x, k: scheduler.scale_model_input(x, scheduler.timesteps[k]))
    assert np.allclose(found, expected, rtol=1e-5)


# bad input


@pytest.mark.parametrize("pipe", [SimpleNamespace(), SimpleNamespace(scheduler=None)])
def test_a_pipeline_without_a_scheduler_is_refused(pipe):
    with pytest.raises(InputError, match="pipe: SimpleNamespace has no scheduler"):
        intermode.watch(pipe)


def test_an_unknown_scheduler_is_refused():
    with pytest.raises(InputError, match="scheduler: SimpleNamespace is not known"):
        intermode.watch(SimpleNamespace(scheduler=SimpleNamespace()))


def test_a_pipeline_whose_rows_would_be_frames_is_refused():
    kind = type("TextToVideoSDPipeline", (), {"scheduler": diffusers.DDIMScheduler()})
    with pytest.raises(InputError, match="frames"):
        intermode.watch(kind())


@pytest.mark.parametrize("window", [Window(10, 11), Window(0, 1000), SNR(1e6, 1e7), Fraction(0.9, 1)])
def test_a_window_without_two_steps_stops_the_first_step(window):
    pipe, calls = tiny.ddpm(), []
    pipe.unet.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(InputError, match="window"), intermode.watch(pipe, [Hal(window=window)]):
        pipe(num_inference_steps=10)
    assert len(calls) == 1
    assert "step" not in vars(pipe.scheduler)


def test_a_detector_is_used_once():
    pipe, hal = tiny.ddpm(), Hal(window=ALL)
    with intermode.watch(pipe, [hal]) as watched:
        with pytest.raises(InputError, match="another watch"), intermode.watch(pipe, [hal]):
            pass
        with pytest.raises(InputError, match="already"):
            watched.__enter__()
    assert "step" not in vars(pipe.scheduler)


def test_nothing_sampled_and_a_scheduler_exchanged_are_said():
    pipe = tiny.ddpm()
    with intermode.watch(pipe) as watched:
        pass
    with pytest.raises(InputError, match="scores"):
        _ = watched.scores
    with pytest.raises(InputError, match="exchanged"), intermode.watch(pipe):
        pipe.scheduler = diffusers.DDPMScheduler()
    assert "step" not in vars(pipe.scheduler)


def test_decoding_needs_a_vae_and_a_step():
    with pytest.raises(InputError, match="VAE"):
        intermode.watch(tiny.ddpm(), decode=ALL)
    pipe = tiny.dit()
    with pytest.raises(InputError, match="decode"), intermode.watch(pipe, [Steps()], decode=SNR(1e8, 1e9)):
        pipe([1], num_inference_steps=3)


def test_the_default_is_hal_over_the_window_of_images():
    pipe = tiny.ddpm()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with intermode.watch(pipe) as watched, intermode.watch(pipe, [Hal(window=SNR(0.05, 0.25))]) as same:
            pipe(num_inference_steps=50)
    assert np.array_equal(watched.scores["hal"], same.scores["hal"])
