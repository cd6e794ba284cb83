"""The residual MLP and how networks are built."""

import pytest
import torch

from intermode.errors import InputError
from intermode.networks import build
from intermode.networks.mlp import ROWS, sinusoidal

MLP = {"kind": "mlp", "dimensions": 2, "width": 16}


def inputs(count=30):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 2, generator=generator), torch.randint(0, 5, (count,), generator=generator)


def test_weights_belong_to_the_seed_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    a, b, other = build(MLP, 1), build(MLP, 1), build(MLP, 2)
    assert torch.equal(torch.get_rng_state(), before)
    for (name, p), q, r in zip(a.named_parameters(), b.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q), name
        assert "norm" in name or name.startswith("output.0") or not torch.equal(p, r), name


def test_a_timestep_for_all_is_the_same_as_one_for_each():
    network, (x, _) = build(MLP), inputs()
    for t in (0, 3, 999):
        expected = network(x, torch.full((30,), t))
        assert torch.allclose(network(x, torch.tensor(t)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, ROWS, 2 * ROWS + 1])
def test_without_gradients_it_goes_by_parts_to_the_same_answers(count):
    network, (x, t) = build(MLP), inputs(count)
    for asked in (t, torch.tensor(3)):
        expected = network(x, asked)
        with torch.no_grad():
            assert torch.allclose(network(x, asked), expected, rtol=1e-5, atol=1e-6)


def test_mixed_timesteps_reach_their_own_samples():
    network, (x, t) = build(MLP), inputs()
    output = network(x, t)
    for row in range(30):
        expected = network(x[row : row + 1], t[row : row + 1])
        assert torch.allclose(output[row : row + 1], expected, rtol=1e-5, atol=1e-6)


def test_every_parameter_and_the_timestep_matter():
    network, (x, t) = build(MLP), inputs()
    network(x, t).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in network.parameters())
    assert not torch.allclose(network(x, torch.tensor(0)), network(x, torch.tensor(1)), rtol=1e-3)


def test_embedding_is_sines_and_cosines_of_geometric_frequencies():
    t = torch.tensor([0, 1, 500])
    frequencies = torch.logspace(0, -4, 8, dtype=torch.float64)  # from 1 down to 1/10000
    angle = t[:, None].double() * frequencies
    expected = torch.cat([angle.sin(), angle.cos()], dim=1)
    assert torch.allclose(sinusoidal(t, 16).double(), expected, rtol=0, atol=1e-4)


def test_tied_blocks_apply_one_block_repeatedly():
    tied = build({**MLP, "blocks": 3, "tied_blocks": True})
    loose = build({**MLP, "blocks": 3})
    assert len(tied.blocks) == 1
    weights = tied.state_dict()
    for name in [name for name in weights if name.startswith("blocks.0.")]:
        for k in (1, 2):
            weights[name.replace("blocks.0.", f"blocks.{k}.")] = weights[name]
    loose.load_state_dict(weights)
    assert torch.equal(tied(*inputs()), loose(*inputs()))


def test_description_builds_the_same_network():
    network = build({**MLP, "blocks": 2, "slope": 0.3, "tied_blocks": False}, 4)
    assert torch.equal(build(network.description, 4)(*inputs()), network(*inputs()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "unet3d"}, "unet3d.*choose"),
        ({"depth": 3}, "depth"),
        ({"width": 15}, "width"),  # half of it are sines
        ({"width": 2}, "width"),  # one frequency has no geometric spacing
        ({"blocks": 0}, "blocks"),
    ],
)
def test_impossible_networks_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        build({**MLP, **changes})
