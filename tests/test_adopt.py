"""Models that were trained elsewhere become finished jobs, if they are what the jobs would have made."""

from __future__ import annotations

import json
import runpy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from intermode.engines import Here
from intermode.files import load_tensors, read_json, save_tensors, write_json
from intermode.jobs import Job, Store, run_jobs
from intermode.studies import gaussian_1d_sweeps
from intermode.study import configured
from intermode.study.configs import LinearNoise, LineModel, Training
from intermode.study.steps import model_job

ADOPT: Any = runpy.run_path(str(Path(__file__).resolve().parents[1] / "benchmarks" / "adopt.py"))["main"]
MODEL = LineModel(size=300, noise=LinearNoise(20, 0.01, 0.4), train=Training(steps=15, batch=20))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of two models, named as nobody knows them."""
    store = Store(tmp_path_factory.mktemp("elsewhere") / "jobs")
    models = tmp_path_factory.mktemp("models")
    for seed in (0, 1):
        job = model_job("any", replace(MODEL, seed=seed))
        assert run_jobs([job], store, Here()) == {}
        shutil.copytree(store.folder(job) / "model", models / f"mine-{seed}")
        config = read_json(models / f"mine-{seed}" / "config.json")
        config["provenance"] |= {"commit": "abcdef123456", "train_s": 1234.5}
        write_json(models / f"mine-{seed}" / "config.json", config)
    return models


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> dict[str, Job]:
    """The long tier of the sweeps, made small."""
    small = {
        "model.size": 300,
        "model.noise": MODEL.noise,
        "model.train": MODEL.train,
        "train_sizes": (300,),
        "timestep_counts": (20,),
        "seeds": 2,
    }
    monkeypatch.setattr(
        gaussian_1d_sweeps, "STUDY", replace(gaussian_1d_sweeps.STUDY, tiers={"long": small, "quick": {}})
    )
    return dict(gaussian_1d_sweeps.jobs(configured(gaussian_1d_sweeps.STUDY, "long")))


def test_a_model_of_a_job_is_taken_with_its_own_provenance(
    trained: Path, jobs: dict[str, Job], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ADOPT([str(trained), str(tmp_path / "jobs")]) == 0
    store = Store(tmp_path / "jobs")
    for seed in (0, 1):
        job = jobs[f"means-1-2-3_n-300_T-20_seed-{seed}"]
        done = store.done(job)
        assert done is not None
        assert done.made["commit"] == "abcdef123456"
        assert done.made["seconds"] == done.facts["train_s"] == 1234.5
        assert (done.folder / "model" / "model.safetensors").read_bytes() == (
            trained / f"mine-{seed}" / "model.safetensors"
        ).read_bytes()
        ours = Store(tmp_path / "ours")
        assert run_jobs([job], ours, Here()) == {}
        assert read_json(ours.folder(job) / "job.json") == read_json(done.folder / "job.json")
        made = ours.done(job)
        assert made is not None
        assert (made.facts.keys(), made.made.keys()) == (done.facts.keys(), done.made.keys())
        assert made.facts["losses"] == done.facts["losses"]
    # the run goes on with it, and does nothing twice
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("jobs/*/model/*")}
    mass = jobs["means-1-2-3_n-300_T-20_seed-0_mass"]
    assert run_jobs([mass], store, Here()) == {}
    capsys.readouterr()
    assert ADOPT([str(trained), str(tmp_path / "jobs")]) == 0
    assert capsys.readouterr().out.count("is finished already") == 2
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("jobs/*/model/*")} == before


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("provenance", "training", "steps"), 14, "(steps is 14, not 15)"),
        (("provenance", "training", "seed"), 2, "(seed is 2, not "),
        (("provenance", "training", "drop"), None, "(drop is None, not 0.1)"),
        (("provenance", "training_samples"), 299, "(size is 299, not 300)"),
        (
            ("provenance", "target"),
            "Gaussians at 1, 2, 9 of standard deviation 0.05",
            "(target is Gaussians at 1, 2, 9",
        ),
        (("schedule", "beta_end"), 0.5, "(schedule is {'kind': 'linear'"),
        (("network", "width"), 64, "(network is {'kind': 'mlp'"),
        (("prediction",), "x0", "(prediction is x0, not eps)"),
    ],
)
def test_a_model_of_another_config_is_refused(
    trained: Path,
    jobs: dict[str, Job],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    keys: tuple[str, ...],
    value: Any,
    message: str,
) -> None:
    models = tmp_path / "models"
    shutil.copytree(trained, models)
    config = json.loads((models / "mine-0" / "config.json").read_text())
    inner = config
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    write_json(models / "mine-0" / "config.json", config)
    assert ADOPT([str(models), str(tmp_path / "jobs")]) == 1
    said = capsys.readouterr()
    assert said.err.startswith(
        "refused: mine-0: is no job's model; it differs from that of means-1-2-3_n-300_T-20_seed-"
    )
    assert message in said.err
    assert said.err.count("\n") == 1
    assert "mine-1: adopted" in said.out
    assert len(list((tmp_path / "jobs").glob("*/result.json"))) == 1


@pytest.mark.parametrize("damage", ["truncated", "nan", "unfinished"])
def test_a_damaged_model_is_refused(
    trained: Path, jobs: dict[str, Job], tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    models = tmp_path / "models"
    shutil.copytree(trained, models)
    weights = models / "mine-0" / "model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:2000])
    elif damage == "nan":
        tensors, metadata = load_tensors(weights)
        save_tensors(weights, {name: value * torch.nan for name, value in tensors.items()}, metadata)
    else:
        (models / "mine-0" / "config.json").unlink()
    assert ADOPT([str(models), str(tmp_path / "jobs")]) == 1
    assert capsys.readouterr().err.startswith("refused: ")
    assert len(list((tmp_path / "jobs").glob("*/result.json"))) == 1
