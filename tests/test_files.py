"""Files appear whole or not at all, and what cannot be read is named in one line."""

import os
import pickle
import signal
import stat
import subprocess
import sys

import pytest
import torch

from intermode.errors import InputError
from intermode.files import load_tensors, read_json, replacing, save_tensors, write_json, write_text


def names(folder):
    """Everything in a folder, hidden temporary files included."""
    return sorted(path.name for path in folder.iterdir())


def refusal(action, *args):
    """The message of an InputError, which must be one line."""
    with pytest.raises(InputError) as caught:
        action(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_file_is_replaced_only_once_it_is_complete(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent  # a rename across file systems would be a copy
        assert temporary.suffix == path.suffix  # libraries choose their format by it
    assert path.read_text() == "new"
    assert names(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["error", "ctrl-C"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half of it")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_failure_without_an_old_file_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="nan"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert names(tmp_path) == []


def test_tensors_that_cannot_be_written_leave_the_old_ones(tmp_path, monkeypatch):
    import safetensors.torch

    path = tmp_path / "a.safetensors"
    save_tensors(path, {"a": torch.arange(3)})

    def half(tensors, name, metadata):
        name.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(safetensors.torch, "save_file", half)
    with pytest.raises(OSError, match="disk full"):
        save_tensors(path, {"a": torch.zeros(3)})
    assert torch.equal(load_tensors(path)[0]["a"], torch.arange(3))
    assert names(tmp_path) == ["a.safetensors"]


KILLED = """
import os, signal, sys
from pathlib import Path
from intermode.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_in_the_middle_of_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    child = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert child.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


FULL = """
import resource, sys
from pathlib import Path
import torch
from intermode.files import save_tensors
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_tensors(Path(sys.argv[1]), {"a": torch.zeros(1_000_000)})
except OSError as error:
    print("OSError")
"""


def test_a_full_disk_is_an_os_error_also_for_tensors(tmp_path):
    """safetensors raises an error of its own, which nobody who handles a full disk expects."""
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"a": torch.arange(3)})
    child = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=False)
    assert torch.equal(load_tensors(path)[0]["a"], torch.arange(3))
    assert names(tmp_path) == ["a.safetensors"]
    assert child.stdout == "OSError\n", child.stderr


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_files_can_be_read_by_others(tmp_path):
    """Temporary files are private; what is shared should not be."""
    write_text(tmp_path / "a.txt", "a")
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o644


def test_json_survives(tmp_path):
    value = {"σ": [0.1, 1e-300, 3], "none": None, "flag": True}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


def test_tensors_survive_bit_for_bit(tmp_path):
    """Views and non-contiguous tensors too, with special values and metadata."""
    base = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tensors = {
        "turned": base.T,
        "rows": (base + 1)[1:3],
        "flags": torch.tensor([True, False]),
        "special": torch.tensor([torch.inf, -torch.inf, -0.0, 1e-45]),
        "scalar": torch.tensor(3),
    }
    save_tensors(tmp_path / "a.safetensors", tensors, {"seed": "3"})
    loaded, metadata = load_tensors(tmp_path / "a.safetensors")
    assert metadata == {"seed": "3"}
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
    assert torch.signbit(loaded["special"][2])


def test_loaded_tensors_do_not_change_with_the_file(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"a": torch.arange(1000)})
    loaded, _ = load_tensors(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(loaded["a"], torch.arange(1000))


class Exploit:
    """Runs code when unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def test_a_pickle_is_refused_and_not_executed(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Exploit()))
    assert "pickles are not loaded" in refusal(load_tensors, path)
    torch.save({"a": torch.zeros(3)}, path)
    assert "pickles are not loaded" in refusal(load_tensors, path)


@pytest.mark.parametrize("keep", [0, 4, 20, 200, -1])
def test_truncated_tensors_are_refused(tmp_path, keep):
    path = tmp_path / "model.safetensors"
    save_tensors(path, {"a": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:keep])
    assert "truncated" in refusal(load_tensors, path)


def test_missing_files_are_named(tmp_path):
    for load, name in ((load_tensors, "a.safetensors"), (read_json, "a.json")):
        assert refusal(load, tmp_path / name) == f"{tmp_path / name}: not found"


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\x00"])
def test_broken_json_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    assert "not valid JSON" in refusal(read_json, tmp_path / "a.json")


@pytest.mark.parametrize("load", [load_tensors, read_json])
def test_a_folder_in_place_of_a_file_is_refused(tmp_path, load):
    refusal(load, tmp_path)
