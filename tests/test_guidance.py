"""Guidance, conditions of single samples, and training with dropped labels."""

import numpy as np
import pytest
import torch
from torch import nn

from intermode.denoisers import Denoiser, NetworkDenoiser
from intermode.errors import InputError
from intermode.guidance import GuidedDenoiser
from intermode.networks import build
from intermode.samplers import Ancestral
from intermode.sampling import Plan, generate, replay, sample, score
from intermode.schedules import cosine
from intermode.training import TrainConfig, fit

CLASSED = {"kind": "unet", "sample_size": 8, "channels": [64], "patch": 4, "classes": 3}


@pytest.fixture(scope="module")
def denoiser():
    network = build(CLASSED, 1).eval().requires_grad_(False).double()
    network.unet.class_embedding.weight *= 10  # fresh weights hardly listen to the class
    return NetworkDenoiser(network, cosine(20), "v")


def image(count=4):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


LABELS = torch.tensor([0, 2, 1, 2])


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("t", [7, torch.tensor([1, 5, 9, 19])])
def test_guidance_against_two_calls(denoiser, scale, t):
    x = image()
    with_class = denoiser(x, t, class_labels=LABELS)
    without = denoiser(x, t, class_labels=torch.full((4,), 3))
    assert not torch.allclose(with_class, without, atol=1e-4)
    found = GuidedDenoiser(denoiser, scale)(x, t, class_labels=LABELS)
    assert torch.allclose(found, without + scale * (with_class - without), atol=1e-5)


class Counting(nn.Module):
    description = {"classes": 2}  # noqa: RUF012 (stands for a network's property)

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.images = 0

    def forward(self, x, t, class_labels):
        self.images += len(x)
        return self.weight * x + class_labels.reshape(-1, 1)


@pytest.mark.parametrize(("scale", "cost"), [(1.0, 1), (2.0, 2)])
def test_guidance_costs_two_evaluations_a_step_and_one_without(scale, cost):
    network = Counting()
    GuidedDenoiser(NetworkDenoiser(network, cosine(20)), scale)(
        torch.zeros(5, 1), 3, class_labels=torch.zeros(5).long()
    )
    assert network.images == 5 * cost


def test_guidance_that_cannot_be(denoiser):
    with pytest.raises(InputError, match="no classes"):
        GuidedDenoiser(NetworkDenoiser(build({**CLASSED, "classes": 0}), cosine(20)), 2)
    with pytest.raises(InputError, match="not finite"):
        GuidedDenoiser(denoiser, float("nan"))
    with pytest.raises(InputError, match="class_labels"):
        GuidedDenoiser(denoiser, 2)(image(), 3)


class Shift(Denoiser):
    """Its x0_hat is the condition of each sample."""

    schedule, shape = cosine(20), (2,)

    def __call__(self, x_t, t, **condition):
        return condition["place"].to(x_t.dtype).expand(x_t.shape)


class Place:
    name = "place"

    def check(self, schedule):
        pass

    def __call__(self, denoiser, x, noise, **condition):
        return denoiser(x, 0, **condition).flatten(1).double().mean(1)


@pytest.mark.parametrize("chunk", [3, 4, 50])
def test_every_sample_has_its_own_condition_whatever_the_chunk(chunk):
    place = torch.arange(10.0).reshape(10, 1)
    plan = Plan(10, (2,), 0, chunk)
    found = generate(Shift(), Ancestral("small"), plan, place=place)
    assert torch.equal(found.x, place.expand(10, 2))  # the last step is x0_hat itself
    *_, last = replay(Shift(), Ancestral("small"), plan, 10 // chunk if chunk < 10 else 0, place=place)
    assert len(last.x_next) == chunk
    assert np.array_equal(score(Place(), Shift(), found.x, chunk=chunk, place=place), np.arange(10.0))


def test_a_condition_that_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    folder = tmp_path / "samples"
    for place in (torch.zeros(9, 1), torch.tensor(1.0)):
        with pytest.raises(InputError, match=r"place: shape .* does not fit 10 samples"):
            sample(Shift(), 10, detectors=(), out=folder, condition={"place": place})
    assert not folder.exists()


def test_a_folder_of_other_conditions_is_refused(tmp_path):
    settings = {"sampler": Ancestral("small"), "detectors": (), "chunk": 2, "out": tmp_path / "samples"}
    sample(Shift(), 4, condition={"place": torch.zeros(4, 1)}, **settings)
    with pytest.raises(InputError, match=r"holds other samples \(condition: "):
        sample(Shift(), 4, condition={"place": torch.ones(4, 1)}, **settings)


def test_training_tells_the_label_and_drops_its_share():
    seen = []

    class Network(nn.Module):
        description = {"classes": 5}  # noqa: RUF012 (stands for a network's property)

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, x, t, class_labels):
            seen.append((x.detach().clone(), class_labels.clone()))
            return self.weight * x

    # the data is its label, far larger than the noise at t = 0
    labels = torch.arange(5).repeat(20)
    data = 1000.0 * labels[:, None].float()
    fit(Network(), cosine(2), data, TrainConfig(steps=40, batch=100, drop=0.25), labels=labels)
    told = torch.cat([classes for _, classes in seen])
    # 4,000 draws, p = 1/4: five and a half standard errors are passed with probability 4e-8
    assert abs((told == 5).float().mean() - 0.25) < 5.5 * np.sqrt(0.25 * 0.75 / 4000)
    early = torch.cat([x for x, _ in seen])[:, 0]
    known = (told < 5) & (early > 500 * 0.2)
    order = torch.corrcoef(torch.stack([early[known], told[known].float()]))[0, 1]
    assert order > 0.5  # labels belong to their samples, at whatever timestep
    for value in (0, 1):
        seen.clear()
        fit(Network(), cosine(2), data, TrainConfig(steps=1, batch=50, drop=value), labels=labels)
        assert bool((seen[0][1] == 5).all()) is bool(value)


def test_labels_that_do_not_fit_are_refused(denoiser):
    data, network = image(), build(CLASSED)
    for labels, word in (
        (torch.tensor([0, 1, 2, 3]), "outside"),
        (torch.tensor([0, -1, 2, 2]), "outside"),
        (torch.tensor([0, 1]), "fit 4"),
        (torch.zeros(4), "float"),
    ):
        with pytest.raises(InputError, match=word):
            fit(network, cosine(20), data, TrainConfig(steps=1, batch=2), labels=labels)
