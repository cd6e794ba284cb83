"""The U-Net on patches: what it is made of, and that diffusers knows it."""

import json
import os
import pickle
import subprocess
import sys

import pytest
import torch
from diffusers import DDPMPipeline, UNet2DModel
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from intermode.denoisers import NetworkDenoiser
from intermode.errors import InputError
from intermode.files import load_tensors
from intermode.models import SHIPPED, load_model, save_model
from intermode.networks import build
from intermode.schedules import cosine, linear

SMALL = {"kind": "unet", "sample_size": 16, "channels": [32, 32], "patch": 2, "attention": [1]}


def image(count=2, channels=1, size=16):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network():
    return build(SMALL, 3).eval()


@torch.no_grad()
def test_it_is_the_inner_network_between_unshuffling_and_shuffling(network):
    x, t = image(), torch.tensor([1, 7])
    inner = network.unet(pixel_unshuffle(x, 2), t).sample
    assert inner.shape == (2, 4, 8, 8)
    assert torch.allclose(network(x, t).sample, pixel_shuffle(inner, 2), atol=1e-5)
    assert torch.equal(network(x, t, return_dict=False)[0], network(x, t).sample)


@torch.no_grad()
def test_patches_of_one_are_diffusers_own_network():
    ours = build({"kind": "unet", "sample_size": 8, "in_channels": 3, "channels": [32, 64], "patch": 1}, 1).eval()
    theirs = UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        add_attention=False,
    ).eval()
    theirs.load_state_dict(ours.unet.state_dict())
    x = image(channels=3, size=8)
    assert torch.allclose(ours(x, torch.tensor(3)).sample, theirs(x, torch.tensor(3)).sample, atol=1e-5)
    assert ours.shape == (3, 8, 8)


def test_every_parameter_and_the_timestep_matter(network):
    x = image()
    network(x, torch.tensor([2, 9])).sample.square().sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    network.zero_grad(set_to_none=True)
    # the softmax is blind to a shift that is the same for all keys: only rounding is left of that gradient
    assert [name for name in silent if not name.endswith("to_k.bias")] == []
    with torch.no_grad():
        assert not torch.equal(network(x, torch.tensor(0)).sample, network(x, torch.tensor(30)).sample)


def test_a_description_builds_it_again(network):
    again = build(network.description, 3).eval()
    assert network.description == {"in_channels": 1, "layers": 1, "classes": 0, **SMALL}
    with torch.no_grad():
        assert torch.equal(again(image(), torch.tensor(4)).sample, network(image(), torch.tensor(4)).sample)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"sample_size": 18}, "divide 18"),
        ({"channels": [32, 40]}, "multiples of 32"),
        ({"channels": []}, "at least 1"),
        ({"attention": [2]}, "outside 0..1"),
        ({"patch": 0}, "at least 1"),
        ({"width": 3}, "do not fit"),
        ({"kind": "transformer"}, "mlp, unet, local or lenet"),
    ],
)
def test_descriptions_that_make_no_network(changed, word):
    with pytest.raises(InputError, match=word):
        build({**SMALL, **changed})


@pytest.mark.parametrize(("schedule", "prediction"), [(cosine(30), "v"), (linear(20, 0.001, 0.4), "eps")])
def test_a_saved_model_is_a_diffusers_pipeline(tmp_path, network, schedule, prediction):
    saved = NetworkDenoiser(network, schedule, prediction)
    save_model(tmp_path / "m", saved, {"seed": 1})
    loaded = load_model(tmp_path / "m")
    pipe = DDPMPipeline.from_pretrained(tmp_path / "m")
    pipe.save_pretrained(tmp_path / "theirs")
    other = load_model(tmp_path / "theirs")  # a folder of theirs alone
    x = image()
    with torch.no_grad():
        for t in (0, len(schedule) - 1):
            assert torch.equal(loaded(x, t), saved(x, t))
            # diffusers keeps its betas as float32
            assert torch.allclose(other(x, t), saved(x, t), rtol=1e-3, atol=1e-3)
    assert loaded.shape == other.shape == (1, 16, 16)
    pipe.set_progress_bar_config(disable=True)
    assert pipe(batch_size=2, num_inference_steps=5, output_type="np").images.shape == (2, 16, 16, 1)


OPEN_IN_DIFFUSERS = """
import sys
from diffusers import DDPMPipeline

try:
    DDPMPipeline.from_pretrained(sys.argv[1])
except ValueError as error:
    print(error)
import intermode

assert "intermode.networks" not in sys.modules
pipe = DDPMPipeline.from_pretrained(sys.argv[1])
print(type(pipe.unet).__name__, pipe.unet.shape)
"""


def test_diffusers_opens_a_shipped_model_once_intermode_is_imported():
    command = [sys.executable, "-c", OPEN_IN_DIFFUSERS, str(SHIPPED / "shapes")]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True
    )
    without, with_it = done.stdout.strip().splitlines()
    assert "import intermode before calling `from_pretrained`" in without
    assert with_it == "PatchUNet2DModel (1, 64, 64)"


def test_a_folder_written_under_the_modules_name_is_read_too(tmp_path, network):
    save_model(tmp_path, NetworkDenoiser(network, cosine(30), "v"), {})
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["unet"] == ["intermode", "PatchUNet2DModel"]
    (tmp_path / "model_index.json").write_text(
        json.dumps({**index, "unet": ["intermode.networks.unet", index["unet"][1]]})
    )
    x = image()
    with torch.no_grad():
        expected = network(x, torch.tensor(4)).sample
        assert torch.equal(DDPMPipeline.from_pretrained(tmp_path).unet(x, torch.tensor(4)).sample, expected)
        assert torch.equal(load_model(tmp_path).network(x, torch.tensor(4)).sample, expected)
        assert torch.equal(pickle.loads(pickle.dumps(network))(x, torch.tensor(4)).sample, expected)


def test_half_precision_is_half_the_size_and_read_as_float32(tmp_path, network):
    saved = NetworkDenoiser(network, cosine(30), "v")
    for name, half in (("whole", False), ("half", True)):
        save_model(tmp_path / name, saved, {}, half=half)
    weights = [tmp_path / name / "unet" / "diffusion_pytorch_model.safetensors" for name in ("whole", "half")]
    assert weights[1].stat().st_size < 0.55 * weights[0].stat().st_size
    assert {v.dtype for v in load_tensors(weights[1])[0].values()} == {torch.float16}
    loaded = load_model(tmp_path / "half")
    assert loaded.dtype == torch.float32
    with torch.no_grad():
        assert torch.allclose(loaded(image(), 9), saved(image(), 9), atol=2e-3)


def test_a_flow_has_no_pipeline_of_this_kind(tmp_path, network):
    with pytest.raises(InputError, match="not flow"):
        save_model(tmp_path, NetworkDenoiser(network, cosine(30), "flow"), {})


def test_a_pipeline_that_cannot_score_is_refused_in_a_line(tmp_path, network):
    save_model(tmp_path, NetworkDenoiser(network, cosine(30), "v"), {})
    (tmp_path / "config.json").unlink()
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="diffusers cannot open it") as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


@torch.no_grad()
def test_half_precision_answers_in_full_and_keeps_what_rounding_leaves(network):
    a = NetworkDenoiser(network, cosine(30), "v")(image(), 5)
    half = NetworkDenoiser(network.bfloat16(), cosine(30), "v")
    b = half(image(), 5)
    assert (half.dtype, b.dtype) == (torch.float32, torch.float32)
    assert not torch.equal(a, b)
    assert torch.allclose(a, b, atol=0.05)
