"""The experiment as a whole: killed at any moment it ends as an unbroken run."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest

from intermode.files import load_tensors

SMALL = (
    "--side 2 --train-size 300 --extra 15 --timesteps 20 --beta-start 0.01 --beta-end 0.5 --width 16 --steps 60 "
    "--batch 100 --generations 2 --unfiltered-generations 2 --seeds 1 --chunk 512"
)


def command(out, *more):
    flags = [*SMALL.split(), *more, "--out", str(out)]
    return [sys.executable, "-m", "intermode.cli", "reproduce", "recursion-2d", "--tier", "smoke", *flags]


def outcome(out):
    metrics = json.loads((out / "metrics.json").read_text())
    return metrics["values"], metrics["claims"], metrics["series"]


def finish(out):
    done = subprocess.run(command(out), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken") / "run"
    finish(out)
    return out


@pytest.mark.slow
def test_ten_kills_change_nothing(unbroken, tmp_path):
    out, rng = tmp_path / "run", random.Random(0)
    for _ in range(10):
        process = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(2, 9))
        process.send_signal(signal.SIGKILL)
        process.wait()
    finish(out)
    assert outcome(out) == outcome(unbroken)


@pytest.mark.slow
def test_a_truncated_generation_is_made_again_and_said(unbroken, tmp_path):
    import shutil

    out = tmp_path / "run"
    shutil.copytree(unbroken, out)
    pool = out / "seed-0" / "hal" / "generation-01" / "samples.safetensors"
    whole = load_tensors(pool)[0]["samples"]
    pool.write_bytes(pool.read_bytes()[:100])
    weights = out / "seed-0" / "hal" / "generation-02" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    done = finish(out)
    assert "drawing it again" in done.stderr
    assert "training it again" in done.stderr
    assert load_tensors(pool)[0]["samples"].equal(whole)
    assert outcome(out) == outcome(unbroken)


@pytest.mark.slow
def test_another_configuration_is_refused_and_nothing_lost(unbroken):
    before = outcome(unbroken)
    done = subprocess.run([*command(unbroken), "--seeds", "2"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "seeds is 1 there and 2 here" in done.stderr
    assert outcome(unbroken) == before


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        (["--extra", "-1"], "extra"),
        (["--generations", "0"], "generations"),
        (["--arms", "all", "lid"], "arms"),
        (["--window", "5", "90"], "window"),
    ],
)
def test_bad_settings_are_one_line_and_write_nothing(flags, field, tmp_path, capsys):
    from intermode.cli import main

    out = tmp_path / "run"
    assert main(["reproduce", "recursion-2d", "--tier", "smoke", "--out", str(out), *flags]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith(f"error: {field}")
    assert "\n" not in error
    assert not out.exists()
