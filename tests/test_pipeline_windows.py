"""The forward-backward experiment inside pipelines of diffusers, against a loop of our own."""

import diffusers
import pytest
import tiny_pipelines
import torch

from intermode.errors import InputError
from intermode.integrations.laps import _Laps, pipeline_windows
from intermode.noise import NoiseStream
from intermode.progress import Silent

CALLS = {
    "ddpm": {"batch_size": 7, "num_inference_steps": 6},
    "ddim": {"batch_size": 7, "num_inference_steps": 6, "eta": 0.0},
    "dit": {"class_labels": [1, 2, 3, 1, 2, 3, 1], "num_inference_steps": 6},
    "stable-diffusion": {"prompt": ["a red square"] * 7, "num_inference_steps": 6, "output_type": "latent"},
}


@pytest.fixture(params=CALLS)
def pipeline(request, tmp_path):
    kind = request.param
    if kind == "stable-diffusion":
        return tiny_pipelines.stable_diffusion(tmp_path, diffusers.DDIMScheduler()), CALLS[kind]
    return getattr(tiny_pipelines, kind)(), CALLS[kind]


def test_windows_of_pipelines_of_pixels_latents_classes_and_prompts(pipeline):
    pipe, call = pipeline
    before = dict(vars(pipe.scheduler))
    found = pipeline_windows(pipe, 20, call=call, levels=(0, 500, 990), seed=2)
    assert found.levels == (0, 500, 990)
    moved = [each.value for each in found.moved]
    assert moved[0] < moved[2]
    assert found.x.shape[0] == 20
    # three calls of 7; each level's call draws the chain again: 6 + 1, 6 + 4, 6 + 6 steps
    assert found.evaluations == 21 * (6 + 7 + 10 + 12)
    assert found.patches.shape == (3, 8, 8)
    assert set(vars(pipe.scheduler)) == set(before)  # nothing of ours is left on it
    again = pipeline_windows(pipe, 20, call=call, levels=(500,), seed=2)
    assert again.moved[0].value == pytest.approx(found.moved[1].value)
    assert torch.equal(again.x, found.x)


def test_a_lap_is_add_noise_and_the_remaining_timesteps():
    pipe = tiny_pipelines.ddim()
    laps = _Laps(pipe, CALLS["ddim"], 7, 5, Silent())
    (x, _), (y, _) = laps.drawn(), laps(600)
    scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(6)
    rest = [t for t in scheduler.timesteps if t <= 600]
    noise = NoiseStream(5, 0, 7, x.shape[1:], purpose="renoise", restart=int(rest[0]))()
    expected = scheduler.add_noise(x, noise, torch.full((7,), int(rest[0])))
    with torch.no_grad():
        for t in rest:
            expected = scheduler.step(pipe.unet(expected, t).sample, t, expected, eta=0.0).prev_sample
    assert torch.allclose(y, expected, atol=1e-6)
    assert not torch.allclose(y, x, atol=1e-2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 19}, "n: 19 samples are too few"),
        ({"call": {"generator": None}}, "call: the generators are made from the seed; leave generator out"),
    ],
)
def test_what_cannot_be_used_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        pipeline_windows(tiny_pipelines.ddpm(), **arguments)


def test_a_scheduler_that_cannot_go_back_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"^pipe: PNDMScheduler remembers its steps and cannot go back; take DDPM"):
        pipeline_windows(tiny_pipelines.stable_diffusion(tmp_path))
