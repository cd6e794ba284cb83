"""Model folders: what is saved comes back bit for bit, and what is broken is refused in one line."""

import json
import pickle

import pytest
import tiny_pipelines
import torch

from intermode.denoisers import NetworkDenoiser
from intermode.errors import InputError
from intermode.files import load_tensors, save_tensors
from intermode.models import (
    SHIPPED,
    as_denoiser,
    check_saving,
    load,
    load_model,
    provenance_of,
    save_model,
    shipped_names,
)
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


# what a user asks for


def test_a_model_is_a_shipped_one_by_name_or_a_folder_or_a_denoiser(folder, tmp_path, monkeypatch):
    names = shipped_names()
    assert {"gaussian-1d", "grid", "diamond", "shapes"} <= set(names)
    assert "lenet-mnist" not in names  # a classifier
    for name in names:
        assert load(name).identity == load_model(SHIPPED / name).identity
    own = load(folder)
    assert load(str(folder)).identity == own.identity
    assert as_denoiser(own) is own
    assert as_denoiser("grid").shape == (2,)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").rename(tmp_path / "grid")
    assert load("./grid").identity == own.identity
    assert load("grid").identity != own.identity


def test_an_unknown_model_names_the_nearest_and_all():
    with pytest.raises(InputError) as caught:
        load("gausian-1d")
    message = str(caught.value)
    assert "did you mean gaussian-1d?" in message
    assert all(name in message for name in shipped_names())
    assert "\n" not in message
    with pytest.raises(InputError, match=r"no/such/model: no such model folder$"):
        load("no/such/model")
    with pytest.raises(InputError, match="model: int is none; give a Denoiser, a folder, or one of"):
        as_denoiser(5)


def test_a_pipeline_folder_is_a_model(tmp_path):
    tiny_pipelines.ddpm().save_pretrained(tmp_path)
    assert load(tmp_path).shape == (1, 8, 8)
    assert as_denoiser(str(tmp_path)).classes == 0


@pytest.mark.parametrize(
    ("prediction", "schedule", "description", "message"),
    [
        ("eps", Schedule(cosine(9).signal, cosine(9).noise), {"kind": "mlp", "dimensions": 1}, "schedule: was made by"),
        ("flow", cosine(9), {"kind": "unet", "sample_size": 8, "channels": [32]}, "prediction: a DDPMPipeline knows"),
        ("eps", cosine(9), None, "network: a Linear has no description"),
    ],
)
def test_what_could_not_be_opened_again_is_refused_before_it_is_trained(prediction, schedule, description, message):
    network = torch.nn.Linear(1, 1) if description is None else build(description)
    with pytest.raises(InputError, match=message):
        check_saving(network, schedule, prediction)
