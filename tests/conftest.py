"""What many tests share: one thread, reproducible hypothesis, and small schedules, targets and networks."""

import pytest
import torch
from hypothesis import HealthCheck, settings

from intermode.networks import build
from intermode.schedules import linear
from intermode.targets.gaussian import line

# the same examples on every run, and no time limit per example on a busy machine
settings.register_profile(
    "tests",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
)
settings.load_profile("tests")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Bit-equality is promised for equal thread counts, and tests run side by side."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def schedule():
    """40 timesteps that end in almost pure noise."""
    return linear(40, 0.001, 0.4)


@pytest.fixture(scope="session")
def modes():
    """The paper's three modes."""
    return line([1, 2, 3])


@pytest.fixture(scope="session")
def uneven():
    """A mixture in which every mode has another weight and width."""
    return line([1.0, 2.0, 3.5], [0.05, 0.1, 0.03], [0.2, 0.7, 0.1])


@pytest.fixture
def network():
    """A small untrained network, the same at each call; its weights are its own."""

    def make(dimensions=1, seed=3, width=16, blocks=2):
        return build({"kind": "mlp", "dimensions": dimensions, "width": width, "blocks": blocks}, seed)

    return make
