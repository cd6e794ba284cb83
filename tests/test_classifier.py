"""The classifier learns, belongs to its seed, and sees all images alike; the shipped one is as good as it says."""

import math
import pickle

import numpy as np
import pytest
import torch

from intermode.classifier import (
    SHIPPED,
    ClassifierConfig,
    accuracy,
    classify,
    features,
    fit,
    load_classifier,
    save_classifier,
)
from intermode.errors import InputError
from intermode.evaluation import share
from intermode.files import read_json
from intermode.models import shipped
from intermode.networks import build
from intermode.schedules import linear
from intermode.targets.digits import FILES, Digits, load
from intermode.targets.drawn_digits import drawn
from intermode.targets.fetch import cache_folder
from intermode.targets.idx import find


@pytest.fixture(scope="module")
def trained():
    """A classifier of drawn digits."""
    return fit(drawn(1200, 0), ClassifierConfig(epochs=4, batch=50))


@pytest.fixture
def small():
    """Few digits and a short training."""
    return drawn(60, 0), ClassifierConfig(epochs=2, batch=16)


# training


def test_it_learns_and_knows_fresh_digits(trained):
    fresh = drawn(400, 1)
    found = accuracy(trained, fresh)
    assert found.value > 0.95
    assert found == share(int((classify(trained, fresh.x) == fresh.classes).sum()), 400)
    assert not trained.training
    assert not any(p.requires_grad for p in trained.parameters())


def test_weights_belong_to_the_seed_bit_for_bit(small):
    digits, config = small
    before = torch.random.get_rng_state()
    first = fit(digits, config).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)  # nobody else's random numbers are used up
    torch.manual_seed(99)
    again = fit(digits, config).state_dict()
    other = fit(digits, ClassifierConfig(epochs=2, batch=16, seed=1)).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_epochs_see_every_image_once_in_another_order_at_a_falling_rate(small, monkeypatch):
    digits, config = small
    rates, seen = [], []

    class Adam(torch.optim.Adam):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    def cross_entropy(logits, y):
        seen.append(y.tolist())
        return real(logits, y)

    from intermode import classifier

    real = classifier.cross_entropy
    monkeypatch.setattr(torch.optim, "Adam", Adam)
    monkeypatch.setattr(classifier, "cross_entropy", cross_entropy)
    fit(digits, config)
    np.testing.assert_allclose(rates, [2e-3 * (1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)])
    assert [len(step) for step in seen] == [16, 16, 16, 12] * 2
    first, second = (np.concatenate(seen[k : k + 4]).tolist() for k in (0, 4))
    assert sorted(first) == sorted(second) == sorted(digits.classes.tolist())
    assert first != second


def test_a_rate_that_is_too_high_is_said(small):
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        fit(small[0], ClassifierConfig(epochs=3, batch=16, learning_rate=1e30))


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"epochs": 0}, "epochs: 0 must be at least 1"),
        ({"batch": 0}, "batch: 0 must be at least 1"),
        ({"learning_rate": 0.0}, r"learning_rate: 0\.0 must be positive"),
        ({"learning_rate": math.nan}, "learning_rate: nan must be positive and finite"),
        ({"seed": -1}, "seed: -1 must be at least 0"),
    ],
)
def test_settings(setting, expected):
    with pytest.raises(InputError, match=expected):
        ClassifierConfig(**setting)


# features


def test_features_are_of_the_images_whatever_their_type(trained):
    digits = drawn(1100, 2)  # more than are computed at once
    found = features(trained, digits.images)
    assert (found.shape, found.dtype) == ((1100, 84), np.float32)
    assert (found >= 0).all()
    with torch.no_grad():
        np.testing.assert_allclose(found[990:1010], trained.features(digits.x[990:1010]).numpy(), atol=1e-5)
        logits = trained(digits.x)
        torch.testing.assert_close(trained.output(torch.from_numpy(found)), logits, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(classify(trained, digits.images), logits.argmax(1).numpy())
    np.testing.assert_allclose(features(trained, digits.x), found, atol=1e-4)
    np.testing.assert_allclose(features(trained, digits.images / 255, "[0,1]"), found, atol=1e-4)


def test_images_of_another_range_are_refused_not_measured(trained):
    for use in (features, classify):
        with pytest.raises(InputError, match=r"values from 0 to 255 do not fit the range \[-1,1\]"):
            use(trained, drawn(4, 0).images.astype(np.float32))


# folders


def test_a_folder_gives_the_classifier_back(trained, tmp_path):
    save_classifier(tmp_path, trained, {"seed": 0})
    again = load_classifier(tmp_path)
    digits = drawn(50, 3)
    np.testing.assert_array_equal(features(again, digits.images), features(trained, digits.images))
    assert not again.training
    assert read_json(tmp_path / "config.json")["provenance"] == {"seed": 0}


def _wider(folder):
    save_classifier(folder, build({"kind": "lenet", "classes": 11}), {})
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace("11", "10"))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json: not found"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: not found"),
        (lambda f: (f / "config.json").write_text('{"format": "intermode-model-1"}'), "is not the config of an interm"),
        (lambda f: (f / "config.json").write_text("[]"), "is not the config of an intermode classifier"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 9), "is truncated or no safetensors file"),
        (lambda f: (f / "model.safetensors").write_bytes(pickle.dumps({})), "pickles are not loaded"),
        (_wider, "weights do not fit the network"),
        (lambda f: save_classifier(f, build({"kind": "mlp", "dimensions": 1}), {}), "holds no LeNet but .* kind mlp"),
    ],
)
def test_folders_that_cannot_be_used(trained, tmp_path, damage, expected):
    save_classifier(tmp_path, trained, {})
    damage(tmp_path)
    with pytest.raises(InputError, match=expected) as refused:
        load_classifier(tmp_path)
    assert "\n" not in str(refused.value)


# the shipped one


def test_the_shipped_one_says_where_it_is_from_and_is_small():
    record = read_json(SHIPPED / "config.json")["provenance"]
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 1e6
    assert record["target"] == "mnist"
    assert record["training_samples"] == 60_000
    assert not record["commit"].endswith("+")
    assert record["test_accuracy"]["low"] > 0.985
    assert record["test_accuracy"]["value"] >= 0.988
    assert ClassifierConfig(**record["training"])


def test_it_is_no_diffusion_model():
    with pytest.raises(InputError, match="no model 'lenet-mnist' is shipped"):
        shipped("lenet-mnist", linear(20), "mnist")
    with pytest.raises(InputError, match=r"choose from .*diamond") as refused:
        shipped("none", linear(20), "mnist")
    assert "lenet" not in str(refused.value)


def test_the_shipped_one_reads_drawn_digits_far_better_than_chance():
    assert accuracy(load_classifier(), drawn(300, 0)).low > 0.5


def test_the_shipped_one_is_as_good_as_it_says():
    folder = cache_folder("mnist")
    if any(find(folder, name) is None for name in FILES["test"]):
        pytest.skip(f"no mnist in {folder}; intermode data mnist fetches it")
    test = load(folder, "test")
    record = read_json(SHIPPED / "config.json")["provenance"]["test_accuracy"]
    # rounding on another machine may move an image that lies between two classes
    assert accuracy(load_classifier(), test).value == pytest.approx(record["value"], abs=3e-4)


def test_labels_of_any_integers_train_alike(small):
    digits, config = small
    wide = Digits(digits.images, digits.classes.astype(np.int64))
    a, b = fit(digits, config).state_dict(), fit(wide, config).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
