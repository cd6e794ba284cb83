"""Commands that are killed in the middle, each at a point that is seen on disk, end with the same bytes when given
again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from intermode.files import load_tensors

pytestmark = pytest.mark.slow

TRAIN = "train data.npy --out model --steps 4000 --batch 200 --width 64 --timesteps 100 --threads 1"
SAMPLE = "sample model --n 40000 --chunk 1000 --steps 50 --detectors hal lid --threads 1 --out drawn"
SCORE = "score model drawn.npy --out scores.npy --detectors lid --chunk 1000 --threads 1"


def run(command: str, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "intermode", *command.split()], cwd=folder, stderr=subprocess.PIPE)


def finish(command: str, folder: Path) -> None:
    process = run(command, folder)
    said = process.communicate(timeout=300)[1].decode()
    assert process.returncode == 0, said


def trained_steps(folder: Path) -> int:
    """Steps in the checkpoint; none before there is one."""
    file = folder / "model" / "checkpoint.safetensors"
    return int(load_tensors(file)[1]["at.step"]) if file.exists() else 0


def finished_blocks(place: str) -> Callable[[Path], int]:
    return lambda folder: len(list((folder / place).glob("*/result.json")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which nothing was interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(0)
    data = rng.choice([-1.0, 1.0], (5000, 1)) + 0.1 * rng.standard_normal((5000, 1))
    np.save(folder / "data.npy", data.astype(np.float32))
    finish(TRAIN, folder)
    finish(SAMPLE, folder)
    np.save(folder / "drawn.npy", load_tensors(folder / "drawn" / "samples.safetensors")[0]["samples"].numpy())
    finish(SCORE, folder)
    return folder


@pytest.mark.parametrize(
    ("command", "needs", "made", "reached", "point"),
    [
        *((TRAIN, ["data.npy"], "model/model.safetensors", trained_steps, k) for k in (1000, 2000, 3000)),
        *((SAMPLE, ["model"], "drawn/samples.safetensors", finished_blocks("drawn/.jobs"), k) for k in (1, 4, 12)),
        *((SCORE, ["model", "drawn.npy"], "scores.npy", finished_blocks(".scores.npy.jobs"), k) for k in (1, 8)),
    ],
)
def test_the_same_command_ends_with_the_same_bytes(
    whole: Path, tmp_path: Path, command: str, needs: list[str], made: str, reached: Callable[[Path], int], point: int
) -> None:
    for name in needs:
        (tmp_path / name).symlink_to(whole / name)
    process = run(command, tmp_path)
    while reached(tmp_path) < point:
        assert process.poll() is None, process.stderr
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / made).exists()
    at = reached(tmp_path)
    assert at >= point
    finish(command, tmp_path)
    ours, theirs = tmp_path / made, whole / made
    if made.startswith("drawn"):  # the time that it took is in the file too
        tensors, expected = load_tensors(ours)[0], load_tensors(theirs)[0]
        assert tensors.keys() == expected.keys()
        assert all(np.array_equal(tensors[name].numpy(), expected[name].numpy()) for name in tensors)
    else:
        assert ours.read_bytes() == theirs.read_bytes()
