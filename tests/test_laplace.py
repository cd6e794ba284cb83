"""The last layer's posterior against the same Gauss-Newton matrix made by automatic differentiation."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import pixel_shuffle

import intermode.detect
from intermode.denoisers import MixtureDenoiser, NetworkDenoiser
from intermode.detect.laplace import GOLDEN, LastLayerLaplace
from intermode.errors import InputError
from intermode.noise import NoiseStream


class Flat(nn.Module):
    """Two numbers in, two out; the timestep enters as a third."""

    def __init__(self, bias=True):
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 5), nn.Linear(5, 2, bias=bias)

    def forward(self, x, t):
        time = (t.to(x.dtype) / 40).expand(len(x))[:, None]
        return self.outer(torch.tanh(self.inner(torch.cat([x, time], 1))))


class Image(nn.Module):
    """A convolution whose output is rearranged, as in a U-Net on patches."""

    def __init__(self):
        super().__init__()
        self.outer, self.inner = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(1, 3, 3, stride=2, padding=1)

    def forward(self, x, t):
        time = (t.to(x.dtype) / 40).expand(len(x))[:, None, None, None]
        return pixel_shuffle(self.outer(torch.tanh(self.inner(x) + time)), 2)


def made(kind, schedule, prediction="eps"):
    torch.manual_seed(4)
    network = kind() if isinstance(kind, type) else kind
    return NetworkDenoiser(network.double(), schedule, prediction)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_autograd(denoiser, data, prior, seed):
    """Covariance of all the last layer's weights from the Jacobian of every output."""
    network, schedule = denoiser.network, denoiser.schedule
    weights = {k: v.detach().requires_grad_() for k, v in network.named_parameters() if k.startswith("outer")}

    def jacobian(x_t, t):
        outputs = functional_call(network, weights, (x_t[None], t)).flatten()
        rows = [torch.autograd.grad(output, list(weights.values()), retain_graph=True) for output in outputs]
        return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])

    noise = NoiseStream(seed, 0, len(data), data.shape[1:], purpose="probe", dtype=torch.float64)()
    size = sum(w.numel() for w in weights.values())
    precision = prior * torch.eye(size, dtype=torch.float64)
    for i, x in enumerate(data):
        t = torch.tensor(int((i + 0.5) * GOLDEN % 1 * len(schedule)))
        a, s = schedule.level(int(t))
        rows = jacobian(a * x + s * noise[i], t)
        precision += rows.T @ rows
    return torch.linalg.inv(precision), jacobian


@pytest.mark.parametrize(("kind", "shape"), [(Flat, (2,)), (lambda: Flat(bias=False), (2,)), (Image, (1, 4, 4))])
def test_variance_is_that_of_the_gauss_newton_matrix(schedule, kind, shape):
    denoiser = made(kind() if not isinstance(kind, type) else kind, schedule)
    data = normal(12, *shape, seed=1)
    laplace = LastLayerLaplace(denoiser, data, prior_precision=2.0, seed=3)
    covariance, jacobian = by_autograd(denoiser, data, 2.0, 3)
    x_t = normal(4, *shape, seed=2)
    eps, variance = laplace.eps_moments(x_t, 17)
    assert torch.allclose(eps, denoiser.eps(x_t, 17), rtol=1e-12)
    for i in range(4):
        rows = jacobian(x_t[i], torch.tensor(17))
        expected = (rows @ covariance * rows).sum(1)
        assert torch.allclose(variance[i].flatten(), expected, rtol=1e-9)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "flow"])
def test_variance_is_of_eps_whatever_the_network_predicts(schedule, prediction):
    """eps_hat moves by the gain when the output moves by one."""
    denoiser = made(Flat, schedule, prediction)
    laplace = LastLayerLaplace(denoiser, normal(12, 2, seed=1))
    x_t, t = normal(5, 2, seed=2), 23
    before = denoiser.eps(x_t, t)
    with torch.no_grad():
        denoiser.network.outer.bias += 1
    gain = denoiser.eps(x_t, t) - before
    base = made(Flat, schedule)
    _, of_output = LastLayerLaplace(base, normal(12, 2, seed=1)).eps_moments(x_t, t)
    _, variance = laplace.eps_moments(x_t, t)
    assert torch.allclose(variance, gain**2 * of_output, rtol=1e-9)


def test_draws_have_the_posteriors_covariance(schedule):
    """1500 draws; each entry within 6 standard errors (false alarm under 1e-6 over the 36 entries)."""
    denoiser = made(Flat, schedule)
    data = normal(12, 2, seed=1)
    laplace = LastLayerLaplace(denoiser, data, seed=3)
    full, _ = by_autograd(denoiser, data, 1.0, 3)
    row = [0, 1, 2, 3, 4, 10]  # the first output's five weights and its bias
    expected = full[row][:, row].numpy()
    drawn = []
    for m in range(1500):
        weights = laplace.draw(m, seed=8).network.replaced
        change = {k: v - denoiser.network.get_parameter(k) for k, v in weights.items()}
        drawn.append(torch.cat([change["outer.weight"][0], change["outer.bias"][:1]]).detach().numpy())
    found = np.cov(np.array(drawn).T)
    error = np.sqrt((expected**2 + np.outer(np.diag(expected), np.diag(expected))) / 1500)
    assert (np.abs(found - expected) < 6 * error).all()


def test_draws_belong_to_their_index_and_leave_the_network_alone(schedule):
    denoiser = made(Flat, schedule)
    before = {k: v.clone() for k, v in denoiser.network.state_dict().items()}
    laplace = LastLayerLaplace(denoiser, normal(12, 2, seed=1))
    x_t = normal(5, 2, seed=2)
    first, again, other = (laplace.draw(m, seed=1).eps(x_t, 9) for m in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.isclose(first, other, rtol=1e-6).any()
    assert not torch.isclose(first, denoiser.eps(x_t, 9), rtol=1e-6).any()
    assert all(torch.equal(v, before[k]) for k, v in denoiser.network.state_dict().items())
    laplace.eps_moments(x_t, 9)
    assert denoiser(x_t, 9).shape == x_t.shape  # no hook stays behind


def test_posterior_does_not_depend_on_the_batches(schedule, monkeypatch):
    denoiser = made(Flat, schedule)
    data = normal(31, 2, seed=1)
    whole = LastLayerLaplace(denoiser, data, seed=3).eps_moments(data, 9)[1]
    monkeypatch.setattr(intermode.detect, "FIT_NUMBERS", 14)
    assert torch.allclose(LastLayerLaplace(denoiser, data, seed=3).eps_moments(data, 9)[1], whole, rtol=1e-10)


def test_more_data_leave_less_variance(schedule):
    denoiser = made(Flat, schedule)
    few, many = (LastLayerLaplace(denoiser, normal(n, 2, seed=1)) for n in (20, 200))
    x_t = normal(5, 2, seed=2)
    assert (many.eps_moments(x_t, 9)[1] < few.eps_moments(x_t, 9)[1]).all()


def test_what_has_no_linear_last_layer_is_refused(schedule, modes):
    with pytest.raises(InputError, match="MixtureDenoiser has no last layer"):
        LastLayerLaplace(MixtureDenoiser(modes, schedule), normal(5, 1))

    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.LayerNorm(2)

        def forward(self, x, t):
            return self.last(x)

    with pytest.raises(InputError, match="last, is a LayerNorm"):
        LastLayerLaplace(made(Normed, schedule), normal(5, 2))
    with pytest.raises(InputError, match="prior_precision"):
        LastLayerLaplace(made(Flat, schedule), normal(5, 2), prior_precision=0.0)
    with pytest.raises(InputError, match="finite"):
        LastLayerLaplace(made(Flat, schedule), torch.full((5, 2), torch.nan))
