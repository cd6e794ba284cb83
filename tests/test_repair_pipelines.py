"""Repairs of pipelines of diffusers: inside them, and by an image-to-image pipeline of the same weights."""

import re
from pathlib import Path

import diffusers
import numpy as np
import pytest
import tiny_pipelines
import torch

from intermode.detect.hal import Hal
from intermode.detect.window import SNR, Fraction
from intermode.errors import InputError
from intermode.integrations.image_to_image import repair_images
from intermode.integrations.watching import watch
from intermode.noise import NoiseStream
from intermode.repairs import Repair
from intermode.thresholds import Threshold

STEPS = 10
LAST = Fraction(0.7, 1)  # of 10 steps the last 3


class Hashed(Hal):
    """A score that is as good as uniform on 0..1: half of all samples, and of all restarts, pass at 0.5."""

    def update(self, step):
        super().update(step)
        if self.window.holds(step):
            self._last = step.x0_hat.double().flatten(1)[:, 5]

    def score(self):
        return (1e3 * self._last) % 1


def drawn(pipe, kind, tmp_path=None):
    """(6, ...) of a batch, with the same random numbers each time, as exact as the pipeline tells."""
    generator = torch.Generator().manual_seed(0)
    if kind == "dit":
        return pipe([1, 2, 3, 1, 2, 3], generator=generator, num_inference_steps=STEPS, output_type="np").images
    if kind == "stable-diffusion":
        prompts = ["a red square", "a blue circle"] * 3
        settings = {"num_inference_steps": STEPS, "output_type": "latent", "guidance_scale": 5.0}
        return pipe(prompts, generator=generator, **settings).images.numpy()
    return pipe(batch_size=6, generator=generator, num_inference_steps=STEPS, output_type="np").images


@pytest.fixture(params=["ddpm", "ddim", "dit", "stable-diffusion"])
def pipeline(request, tmp_path):
    kind = request.param
    if kind == "stable-diffusion":
        return tiny_pipelines.stable_diffusion(tmp_path, diffusers.DDIMScheduler()), kind
    return getattr(tiny_pipelines, kind)(), kind


@pytest.fixture
def plain(pipeline):
    """Images and their scores."""
    pipe, kind = pipeline
    with watch(pipe, Hashed(window=LAST)) as watched:
        images = drawn(pipe, kind)
    return images, watched.scores["hal"]


def test_nothing_flagged_is_nothing_changed(pipeline, plain):
    pipe, kind = pipeline
    with watch(pipe, Hashed(window=LAST), repair=Repair(threshold=1e9, tries=2)) as watched:
        images = drawn(pipe, kind)
    assert np.array_equal(images, plain[0])
    assert np.array_equal(watched.scores["hal"], plain[1])
    assert not watched.mended.touched.any()
    assert watched.mended.steps == 6


def test_only_what_is_flagged_changes_and_only_into_what_passes(pipeline, plain):
    pipe, kind = pipeline
    before, scores = plain
    limit = Threshold(0.5, score="hal")
    with watch(pipe, repair=Repair(Hashed(window=LAST), limit, tries=3)) as watched:
        images = drawn(pipe, kind)
    mended = watched.mended
    assert np.array_equal(mended.touched, scores > limit.value)
    assert mended.mended.any()  # fails by chance with 2^-3 for each of those flagged
    same = np.array([np.array_equal(a, b) for a, b in zip(images, before, strict=True)])
    assert np.array_equal(same, ~mended.mended)
    assert (watched.scores["hal"][mended.accepted] <= limit.value).all()
    assert np.array_equal(watched.scores["hal"][~mended.mended], scores[~mended.mended])
    assert f"{mended.touched.sum()} of 6 touched, {mended.mended.sum()} mended" in str(mended)


def test_the_scheduler_is_as_it_was(pipeline, plain):
    pipe, kind = pipeline
    with watch(pipe, repair=Repair(Hashed(window=LAST), 0.5, tries=2)):
        drawn(pipe, kind)
    assert not {"step", "set_timesteps"} & vars(pipe.scheduler).keys()
    assert len(pipe.scheduler.timesteps) == STEPS
    assert np.array_equal(drawn(pipe, kind), plain[0])


def test_a_restart_is_noise_and_the_pipelines_own_steps():
    """DDIM's, which add no noise, from t of the last three, each image by its own noise."""
    pipe = tiny_pipelines.ddim()
    finished, asked = {}, []
    step = pipe.scheduler.step

    def noted(output, t, sample, **settings):
        asked.append(int(t))
        result = step(output, t, sample, **settings)
        finished[len(asked)] = result.prev_sample.clone()
        return result

    pipe.scheduler.step = noted
    with watch(pipe, repair=Repair(Hal(window=LAST), -1.0, tries=1)):  # all are flagged, none passes
        drawn(pipe, "ddim")
    whole, again = asked[:STEPS], asked[STEPS:]
    assert again == whole[-3:]
    x = pipe.scheduler.add_noise(
        finished[STEPS], NoiseStream(0, 0, 6, (1, 8, 8)).restarted(1)(), torch.full((6,), again[0])
    )
    del vars(pipe.scheduler)["step"]
    pipe.scheduler.set_timesteps(STEPS)
    for t in again:
        with torch.no_grad():
            x = pipe.scheduler.step(pipe.unet(x, t).sample, t, x).prev_sample
    assert torch.allclose(x, finished[STEPS + 3], atol=1e-5)


def test_batches_follow_each_other_and_share_a_report():
    pipe = tiny_pipelines.ddpm()
    with watch(pipe, repair=Repair(Hal(window=LAST), share=0.34, tries=1)) as watched:
        one, two = drawn(pipe, "ddpm"), drawn(pipe, "ddpm")
    mended = watched.mended
    assert mended.touched.sum() == 4
    assert np.array_equal(mended.touched[:6], mended.touched[6:])
    untouched = ~mended.touched[:6]
    assert np.array_equal(one[untouched], two[untouched])


def test_the_level_is_a_timestep_a_share_or_a_window():
    pipe = tiny_pipelines.ddim()
    alpha_bar = pipe.scheduler.alphas_cumprod.double()
    ratio = float(alpha_bar[600] / (1 - alpha_bar[600]))
    for level, steps in ((500, 6), (0.45, 5), (SNR(0.99 * ratio, 1e9), 7), (None, 3)):
        with watch(pipe, repair=Repair(Hal(window=LAST), 1e9, level=level, tries=1)) as watched:
            drawn(pipe, "ddim")
        assert watched.mended.steps == steps, level


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": 150}, "level: a restart from t = 100 does not pass through all of hal's window 0.7..1 of the steps"),
        ({"level": 1000}, "level: 1000 is outside the timesteps 1..999 that a restart can begin at"),
        ({"threshold": Threshold(1.0, score="lid")}, "threshold: is one of lid, not of hal"),
        ({"replace": True}, "repair: a pipeline's images cannot be drawn afresh inside it; leave replace out"),
    ],
)
def test_impossible_repairs_are_refused(settings, message):
    pipe = tiny_pipelines.ddim()
    with pytest.raises(InputError) as caught, watch(pipe, repair=Repair(Hal(window=LAST), **settings)):
        drawn(pipe, "ddim")
    assert str(caught.value).startswith(message)
    assert not {"step", "set_timesteps"} & vars(pipe.scheduler).keys()


def test_schedulers_that_cannot_go_back_are_refused(tmp_path):
    with pytest.raises(InputError, match="repair: PNDMScheduler remembers its steps and cannot go back; take DDPM"):
        watch(tiny_pipelines.stable_diffusion(tmp_path), repair=Repair())


def test_finished_detectors_and_second_watches_are_refused():
    pipe = tiny_pipelines.ddim()
    with pytest.raises(InputError, match="lid: scores finished images; use score"):
        watch(pipe, repair=Repair("lid"))
    with (
        watch(pipe, Hal(window=LAST), repair=Repair()),
        pytest.raises(InputError, match="repair: a pipeline that is repaired is watched once"),
        watch(pipe, Hal(0, 500)),
    ):
        pass


# by an image-to-image pipeline


@pytest.fixture
def stable(tmp_path):
    """With a scheduler that remembers its steps, an image-to-image pipeline of its weights, images and scores."""
    pipe = tiny_pipelines.stable_diffusion(tmp_path, diffusers.DPMSolverMultistepScheduler())
    again = diffusers.StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    prompts = ["a red square", "a blue circle", "a square"]
    with watch(pipe, Hal(window=LAST)) as watched:
        images = pipe(prompts, num_inference_steps=STEPS, generator=torch.Generator().manual_seed(0)).images
    call = {"prompt": prompts, "strength": 0.5, "num_inference_steps": STEPS}
    return tiny_pipelines.quiet(again), images, watched.scores["hal"], call


WINDOW = SNR(0.3, 1e9)


def test_flagged_images_pass_through_it_and_the_others_are_the_same_objects(stable):
    pipe, images, scores, call = stable
    told = []
    run = type(pipe).__call__

    class Noted:
        scheduler = pipe.scheduler

        def __call__(self, **settings):
            told.append(settings)
            return run(pipe, **settings)

    limit = Threshold(float(np.sort(scores)[:2].mean()), score="hal")
    repaired = repair_images(
        Noted(), images, scores, detector=Hal(window=WINDOW), call=call, threshold=limit, tries=3, batch=1
    )
    flagged = np.flatnonzero(scores > limit.value)
    assert np.array_equal(np.flatnonzero(repaired.touched), flagged)
    assert [settings["prompt"] for settings in told[: len(flagged)]] == [[call["prompt"][row]] for row in flagged]
    assert all(settings["strength"] == 0.5 for settings in told)
    assert repaired.restarts == len(told)
    for row, image in enumerate(images):
        assert (repaired.images[row] is image) == (not repaired.mended[row])
    assert np.array_equal(repaired.accepted, repaired.scores <= limit.value)
    assert np.array_equal(scores > limit.value, repaired.touched)  # what was given is left alone


def test_a_restart_of_an_image_does_not_depend_on_the_others(stable):
    pipe, images, scores, call = stable
    settings = {"detector": Hal(window=WINDOW), "tries": 1, "batch": 1}
    whole = repair_images(pipe, images, scores, call=call, threshold=-1.0, **settings)
    assert whole.restarts == 3
    assert not whole.mended.any()
    loose = repair_images(pipe, images, [0.0, 0.0, 1e8], call=call, threshold=1e7, **settings)
    every = repair_images(pipe, images, [1e8] * 3, call=call, threshold=1e7, **settings)
    assert loose.mended.tolist() == [False, False, True]
    assert every.mended.all()
    assert np.abs(np.asarray(loose.images[2], int) - np.asarray(every.images[2], int)).max() <= 1


def test_what_does_not_fit_is_refused(stable):
    pipe, images, scores, call = stable
    for given, message in (
        ({"scores": scores[:2]}, r"scores: shape \(2,\) for 3 images; must be one for each"),
        ({"threshold": Threshold(1.0, score="lid")}, "threshold: is one of lid, not of hal"),
        ({"tries": 0}, "tries: 0 must be a whole number, at least 1"),
        ({"detector": Hal(window=SNR(1e-9, 1e-3))}, "window: SNR 1e-09..0.001 holds"),
    ):
        with pytest.raises(InputError, match=message):
            repair_images(
                pipe,
                images,
                **{"scores": scores, "detector": Hal(window=WINDOW), "call": call, "threshold": -1.0} | given,
            )


def test_the_page_runs_as_it_is_written(tmp_path, monkeypatch, capsys):
    """With smaller numbers of samples and steps, and untrained models of those names in the folder."""
    monkeypatch.chdir(tmp_path)
    tiny_pipelines.ddpm().save_pretrained("my-model")
    tiny_pipelines.stable_diffusion(tmp_path).save_pretrained("my-text-to-image-model")
    page = (Path(__file__).parents[1] / "docs" / "windows-and-repair.md").read_text(encoding="utf-8")
    page = page[page.index("## Repair") :]
    names, printed = {}, []
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.S):
        smaller = block.replace("2000", "100").replace("num_inference_steps=50", "num_inference_steps=20")
        exec(compile(smaller.replace('_steps": 50', '_steps": 20'), "docs/windows-and-repair.md", "exec"), names)
        printed.append(capsys.readouterr().out)
    assert "e-5 ± " in printed[0]
    assert "2 of 100 touched" in printed[0]
    assert printed[1].endswith(" 0\n")  # nothing was evaluated to score
    assert "early stop: " in printed[2]
    assert "of 100 stopped and begun anew" in printed[2]
    assert printed[3].startswith("3 of 16 touched")
    assert printed[4].startswith("2 of 8 touched")
