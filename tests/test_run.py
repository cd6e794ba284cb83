"""A run's folder: one config, the time that it took, metrics that are whole or not there, and who made them."""

import json
import subprocess
import time
from dataclasses import dataclass, replace

import pytest
import torch

from intermode import run as run_module
from intermode.errors import InputError
from intermode.evaluation import Estimate
from intermode.run import Claim, Results, Run, at_least, provenance


@dataclass(frozen=True)
class Config:
    means: tuple[float, ...] = (1.0, 2.0)
    sets: tuple[tuple[float, ...], ...] = ((1.0,), (2.0, 3.0))
    sigma: float = 0.05
    seed: int = 7


def results(**values):
    claim = Claim("one", "It is so", "yes", 0.5, 0.4, 0.6, True)
    return Results(values={"rate": 0.25, **values}, claims=[claim], figures={"plot": "A plot."}, notes=["A note."])


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "one"


def open_run(folder, config=None, experiment="gaussian-1d", tier="smoke"):
    return Run(folder, experiment, tier, config or Config())


def refusal(folder, **other):
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} if folder.is_dir() else None
    with pytest.raises(InputError) as caught:
        open_run(folder, **other)
    assert "\n" not in str(caught.value)
    if before is not None:
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    return str(caught.value)


def test_the_same_config_opens_a_folder_again_and_the_record_is_readable(folder):
    open_run(folder)
    record = (folder / "config.json").read_bytes()
    open_run(folder)  # tuples that became lists are still the same
    assert (folder / "config.json").read_bytes() == record
    assert json.loads(record) == {
        "experiment": "gaussian-1d",
        "tier": "smoke",
        "config": {"means": [1, 2], "sets": [[1], [2, 3]], "sigma": 0.05, "seed": 7},
    }


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"config": Config(sigma=0.1)}, "another config (sigma is 0.05 there and 0.1 here)"),
        ({"config": Config(means=(1.0, 3.0))}, "(means is [1.0, 2.0] there and [1.0, 3.0] here)"),
        ({"config": Config(sigma=0.1, seed=8)}, "sigma is 0.05 there and 0.1 here, seed is 7 there and 8 here"),
        ({"tier": "quick"}, "tier smoke, not quick"),
        ({"experiment": "score-field"}, "experiment gaussian-1d, not score-field"),
    ],
)
def test_another_run_is_refused_with_the_difference(folder, other, expected):
    open_run(folder)
    assert expected in refusal(folder, **other)


def test_a_setting_that_one_side_does_not_know_is_a_difference(folder):
    """A run of an older version, say."""
    open_run(folder)
    record = json.loads((folder / "config.json").read_text())
    record["config"]["extra"] = 3
    (folder / "config.json").write_text(json.dumps(record))
    assert "extra is 3 there and None here" in refusal(folder)


@pytest.mark.parametrize("content", ["[]", "{}", '{"experiment": "gaussian-1d"}', '{"experi'])
def test_a_config_that_is_no_runs_is_refused(folder, content):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(content)
    assert "config.json" in refusal(folder)


def test_files_and_foreign_folders_are_refused(folder):
    folder.mkdir(parents=True)
    open_run(folder / "empty")  # a folder that is there but empty is as good as none
    (folder / "full").mkdir()
    (folder / "full" / "note").touch()
    assert "is not empty and holds no run" in refusal(folder / "full")
    assert "is a file; choose a folder" in refusal(folder / "full" / "note")


def test_metrics_hold_everything_and_nothing_else_is_left(folder):
    begun = time.monotonic()
    metrics = open_run(folder).finish(results(), "cpu", 1)
    assert metrics == json.loads((folder / "metrics.json").read_text()) | {"config": metrics["config"]}
    assert json.loads(json.dumps(metrics["config"])) == json.loads((folder / "config.json").read_text())["config"]
    assert metrics["experiment"] == "gaussian-1d"
    assert metrics["tier"] == "smoke"
    assert metrics["seed"] == 7
    assert metrics["values"] == {"rate": 0.25}
    assert metrics["claims"][0] == {
        "id": "one",
        "statement": "It is so",
        "paper": "yes",
        "measured": 0.5,
        "low": 0.4,
        "high": 0.6,
        "holds": True,
    }
    assert 0 <= metrics["wall_s"] <= time.monotonic() - begun + 0.01
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "metrics.json"]


def test_metrics_are_whole_or_not_there(folder, monkeypatch):
    run = open_run(folder)
    with pytest.raises(ValueError, match="JSON"):  # NaN is not JSON: a value must be a number or None
        run.finish(results(bad=float("nan")), "cpu")
    assert not (folder / "metrics.json").exists()
    run.finish(results(), "cpu")
    before = (folder / "metrics.json").read_bytes()

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("intermode.files.os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        run.finish(results(more=1), "cpu")
    assert (folder / "metrics.json").read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "metrics.json"]


def test_claims_need_names_of_their_own(folder):
    found = results()
    found.claims.append(replace(found.claims[0], holds=False))
    with pytest.raises(AssertionError, match="repeat"):
        open_run(folder).finish(found, "cpu")


def test_time_is_summed_over_interruptions_and_kept_when_looked_at_again(folder, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(run_module.time, "monotonic", lambda: now[0])
    first = open_run(folder)
    now[0] += 10
    first.keep_time()
    now[0] += 5
    first.keep_time()  # twice: nothing is counted twice
    now[0] += 1000  # killed; this time belongs to nobody
    second = open_run(folder)
    now[0] += 3
    assert second.finish(results(), "cpu")["wall_s"] == 18
    third = open_run(folder)
    now[0] += 60
    assert third.finish(results(), "cpu")["wall_s"] == 18


# provenance


def test_provenance_names_commit_device_and_versions():
    found = provenance("cpu", 1)
    assert found["device"] == "CPU, 1 thread"
    assert provenance("cpu", 4)["device"] == "CPU, 4 threads"
    assert provenance("cpu")["device"] == "CPU"
    assert found["versions"]["torch"] == torch.__version__
    assert {"python", "intermode", "numpy"} <= found["versions"].keys()


def test_the_commit_is_that_of_the_source_and_marks_changes(tmp_path, monkeypatch):
    package = tmp_path / "src" / "intermode"
    package.mkdir(parents=True)
    source = package / "run.py"
    monkeypatch.setattr(run_module, "__file__", str(source))
    source.write_text("one\n")
    assert run_module._commit() is None  # not a clone

    def git(*args):
        identity = ["-c", "user.name=n", "-c", "user.email=n@n.example"]
        ended = subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *args], capture_output=True, text=True, check=True
        )
        return ended.stdout.strip()

    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    assert run_module._commit() == git("rev-parse", "--short=12", "HEAD")
    (package / "untracked").touch()
    assert not run_module._commit().endswith("+")
    source.write_text("two\n")
    assert run_module._commit() == git("rev-parse", "--short=12", "HEAD") + "+"


def test_a_machine_without_git_loses_no_run(folder, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert open_run(folder).finish(results(), "cpu")["commit"] is None


# claims


@pytest.mark.parametrize(
    ("low", "high", "holds"),
    [(0.98, 0.99, True), (0.99, 1.0, True), (0.9, 0.97, False), (0.97, 0.98, None), (0.97, 0.99, None)],
)
def test_a_bound_is_reached_only_if_the_whole_interval_agrees(low, high, holds):
    assert at_least(Estimate((low + high) / 2, low, high), 0.98) is holds
