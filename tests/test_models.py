"""Model folders: what is saved comes back bit for bit, and what is broken is refused in one line."""

import json
import pickle

import pytest
import torch

from intermode.denoisers import NetworkDenoiser
from intermode.errors import InputError
from intermode.files import load_tensors, save_tensors
from intermode.models import load_model, provenance_of, save_model
from intermode.networks import build
from intermode.schedules import Schedule, cosine


@pytest.fixture
def folder(tmp_path, schedule, network):
    save_model(tmp_path / "model", NetworkDenoiser(network(), schedule), {"seed": 3})
    return tmp_path / "model"


def refusal(folder):
    """The message of the InputError that loading raises, which must be one line."""
    with pytest.raises(InputError) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(folder, **changes):
    """Changes the config; None removes a field."""
    path = folder / "config.json"
    config = {k: v for k, v in {**json.loads(path.read_text()), **changes}.items() if v is not None}
    path.write_text(json.dumps(config))


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "flow"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_model_comes_back_bit_for_bit(tmp_path, prediction, tied):
    config = {"kind": "mlp", "dimensions": 2, "width": 16, "blocks": 3, "slope": 0.1, "tied_blocks": tied}
    saved = NetworkDenoiser(build(config, 5), cosine(30), prediction)
    save_model(tmp_path, saved, {"seed": 5})
    loaded = load_model(tmp_path)
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    for t in (0, 17, 29, torch.arange(20)):
        with torch.no_grad():
            assert torch.equal(loaded(x, t), saved(x, t))
    assert loaded.prediction == prediction
    assert loaded.network.description == saved.network.description
    assert (loaded.schedule.signal == saved.schedule.signal).all()
    assert not any(p.requires_grad for p in loaded.network.parameters())
    assert not loaded.network.training


def test_provenance_is_kept(folder):
    assert provenance_of(folder) == {"seed": 3}


def test_a_missing_folder_or_file_is_named(folder):
    assert "no such model folder" in refusal(folder / "other")
    (folder / "model.safetensors").unlink()
    assert refusal(folder) == f"{folder / 'model.safetensors'}: not found"
    (folder / "config.json").unlink()
    assert refusal(folder) == f"{folder / 'config.json'}: not found"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_truncated_model_is_refused(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    assert "truncated" in refusal(folder)


def test_a_pickle_is_refused(folder):
    (folder / "model.safetensors").write_bytes(pickle.dumps({"weights": [1.0]}))
    assert "pickles are not loaded" in refusal(folder)


def test_a_folder_of_something_else_is_refused(folder):
    edit(folder, format="diffusers")
    assert "not the config of an intermode model" in refusal(folder)
    (folder / "config.json").write_text("[1, 2]")
    assert "not the config of an intermode model" in refusal(folder)


def test_weights_of_another_network_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    edit(folder, network={**config["network"], "width": 8})
    assert "do not fit" in refusal(folder)
    edit(folder, network={**config["network"], "blocks": 3})
    assert "do not fit" in refusal(folder)


def test_a_missing_tensor_is_refused(folder):
    tensors, _ = load_tensors(folder / "model.safetensors")
    tensors.popitem()
    save_tensors(folder / "model.safetensors", tensors)
    assert "do not fit" in refusal(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"network": None},
        {"schedule": None},
        {"prediction": None},
        {"network": {"kind": "mlp", "dimensions": 1, "depth": 3}},
        {"network": {"kind": "transformer"}},
        {"schedule": {"kind": "linear", "beta": 3}},
        {"schedule": {"kind": "explicit"}},
        {"schedule": {"kind": "linear", "timesteps": 1}},
        {"prediction": "noise"},
    ],
    ids=str,
)
def test_a_config_with_missing_or_unknown_fields_is_refused(folder, changes):
    edit(folder, **changes)
    refusal(folder)


def test_provenance_missing_from_the_config_is_refused(folder):
    edit(folder, provenance=None)
    with pytest.raises(InputError, match="provenance"):
        provenance_of(folder)


def test_a_schedule_that_cannot_be_described_is_not_saved(tmp_path, network):
    """Its folder could never be loaded again."""
    schedule = Schedule(cosine(10).signal, cosine(10).noise)
    with pytest.raises(InputError, match="schedule"):
        save_model(tmp_path / "model", NetworkDenoiser(network(), schedule), {})
    assert not (tmp_path / "model").exists()
