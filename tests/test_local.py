"""The network that sees a part of an image: how much that is, and that diffusers knows it."""

import pytest
import torch
from diffusers import DDPMPipeline

from intermode.denoisers import NetworkDenoiser
from intermode.errors import InputError
from intermode.models import load_model, save_model
from intermode.networks import build
from intermode.schedules import cosine

SMALL = {"kind": "local", "sample_size": 32, "patch": 4, "width": 32}


def image(count=1, size=32):
    return torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(0))


def seen(network, row, column):
    """Pixels that a pixel of the output depends on."""
    x = image().requires_grad_()
    network(x, torch.tensor(5)).sample[0, 0, row, column].backward()
    return x.grad[0, 0] != 0


@pytest.mark.parametrize("reach", [0, 1, 2, 3])
def test_a_patch_sees_as_many_patches_on_each_side_as_blocks_look_around(reach):
    expected = torch.zeros(32, 32, dtype=torch.bool)
    low, high = 4 * (3 - reach), 4 * (4 + reach)
    expected[low:high, low:high] = True
    assert torch.equal(seen(build({**SMALL, "reach": reach}), 13, 14), expected)


def test_attention_sees_everything():
    assert seen(build({**SMALL, "reach": 1, "attention": True}), 13, 14).all()


@torch.no_grad()
def test_without_an_embedding_all_places_are_treated_alike():
    x = torch.zeros(1, 1, 32, 32)
    x[0, 0, 13, 14] = 1
    moved = x.roll((4, -4), (2, 3))

    def shifts(**settings):
        network = build({**SMALL, "reach": 1, **settings})
        here, there = network(x, torch.tensor(5)).sample, network(moved, torch.tensor(5)).sample
        window = here[0, 0, 8:20, 8:24]  # far from the border
        return torch.allclose(there[0, 0, 12:24, 4:20], window, atol=1e-6)

    assert shifts(position=False)
    assert not shifts(position=True)


@torch.no_grad()
def test_each_sample_is_told_its_own_timestep():
    network, x = build(SMALL), image(3)
    t = torch.tensor([1, 7, 900])
    rows = [network(x[k : k + 1], t[k]).sample for k in range(3)]
    assert torch.allclose(network(x, t).sample, torch.cat(rows), atol=1e-5)
    assert not torch.allclose(network(x, torch.tensor(1)).sample[1:], network(x, t).sample[1:], atol=1e-3)


@torch.no_grad()
def test_each_sample_is_told_its_own_class_and_the_last_one_means_that_none_is_given():
    network, x, t = build({**SMALL, "classes": 3}), image(3), torch.tensor(5)
    labels = torch.tensor([2, 0, 3])
    together = network(x, t, labels).sample
    apart = [network(x[k : k + 1], t, labels[k : k + 1]).sample for k in range(3)]
    assert torch.allclose(together, torch.cat(apart), atol=1e-5)
    assert torch.allclose(network(x[2:], t).sample, together[2:], atol=1e-5)
    assert not torch.allclose(network(x[:2], t).sample, together[:2], atol=1e-3)


def test_every_parameter_matters():
    network = build({**SMALL, "attention": True, "classes": 2})
    network(image(3), torch.tensor([1, 7, 9]), torch.tensor([0, 1, 2])).sample.square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in network.parameters())


@torch.no_grad()
def test_a_folder_of_it_opens_here_and_in_diffusers(tmp_path):
    network = build(SMALL, 2).eval()
    save_model(tmp_path, NetworkDenoiser(network, cosine(40), "v"), {"target": "toy", "commit": "abc"})
    x, t = image(2), torch.tensor([3, 30])
    expected = network(x, t).sample
    assert torch.equal(load_model(tmp_path).network(x, t).sample, expected)
    pipe = DDPMPipeline.from_pretrained(tmp_path)
    assert torch.equal(pipe.unet.eval()(x, t).sample, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch": 5}, "patches of 5 do not divide 32"),
        ({"width": 40}, "width 40 must be a multiple of 32"),
        ({"reach": 5}, "4 blocks, of which 5"),
        ({"blocks": 0, "reach": 0}, "0 blocks"),
        ({"channels": [32]}, "settings of kind local do not fit"),
    ],
)
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(InputError, match=message):
        build({**SMALL, **changes})
