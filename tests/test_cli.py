"""The command line: bad input is one line and leaves nothing behind; files are what the commands say they are."""

import contextlib
import errno
import json
import os
import pickle
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from intermode import cli
from intermode.denoisers import NetworkDenoiser
from intermode.errors import InputError
from intermode.files import load_tensors, save_tensors
from intermode.models import save_model
from intermode.networks import build
from intermode.schedules import linear
from intermode.studies import STUDIES, find
from intermode.targets.gaussian import GaussianMixture, line
from intermode.training import default_network

TINY = shlex.split(
    "--tier smoke --model.noise.timesteps 20 --model.train.steps 5 --model.train.batch 50 --model.size 100 "
    "--pool.n 200 --points 64 --window 0 8"
)
TRAIN = shlex.split("--steps 30 --batch 50 --timesteps 20 --width 16")


def tree(folder):
    """Every file below a folder with its content, and every folder."""
    return {p.relative_to(folder): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def listed_in(path):
    """Rows and scores in a list that filter wrote."""
    rows, scores = np.loadtxt(path, delimiter=",", skiprows=1).T
    return rows.astype(int), scores


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder whose name has a space."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def refused(here, capsys):
    """Runs a command that must be refused: one line, status 2, and not a byte changed; returns the line."""

    def run(*args, status=2):
        before = tree(here)
        assert cli.main([str(arg) for arg in args]) == status
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("error: ")
        assert said.err.count("\n") == 1
        assert said.err.endswith("\n")
        assert tree(here) == before
        return said.err

    return run


@pytest.fixture
def done(here, capsys):
    """Runs a command that must succeed and returns what it printed."""

    def run(*args):
        status = cli.main([str(arg) for arg in args])
        said = capsys.readouterr()
        assert status == 0, said.err
        return said.out

    return run


@pytest.fixture
def model(here, network):
    """A small model of one dimension and 20 timesteps."""
    save_model(Path("model"), NetworkDenoiser(network(), linear(20)), {"seed": 3})
    return Path("model")


@pytest.fixture
def data(here):
    """300 numbers; a third of the largest scores belong to what lies beyond 2."""
    values = np.random.default_rng(0).normal(size=300)
    np.save("data.npy", values)
    np.save("scores.npy", np.abs(values))
    np.save("labels.npy", (np.abs(values) > 2).astype(int))
    return values


# starting


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys, time; begin = time.perf_counter()\n"
        "from intermode.cli import main; status = main(['--help'])\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'scipy', 'accelerate', 'diffusers'} & set(sys.modules)\n"
        "print(status, sorted(heavy), time.process_time(), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    status, heavy, seconds = ended.stderr.rsplit(maxsplit=2)[0][0], ended.stderr, float(ended.stderr.split()[-1])
    assert status == "0"
    assert "[]" in heavy
    assert seconds < 1  # processor time: other work on the machine must not fail this
    for command in cli.COMMANDS:
        assert f"\n  {command} " in ended.stdout
    assert "intermode.watch" in ended.stdout


def test_what_is_not_there_is_told_before_anything_heavy_is_imported(here):
    """Less than a second of processor time, and torch never imported."""
    commands = [
        "train none.npy --out model",
        "sample none -n 5 --out samples",
        "sample gaussian-1d -n 5 --out samples --keep-below none.json",
        "score gaussian-1d none.npy --out scores.npy",
        "score none cli.py --out scores.npy",
        "filter none.npy --kept 0.9 --out out",
        "filter cli.py --scores none.npy --kept 0.9 --out out",
        "off-support none line",
        "report none",
        "status none",
    ]
    Path("cli.py").touch()
    code = (
        "import sys, time\n"
        "from intermode.cli import main\n"
        f"for command in {commands!r}:\n"
        "    begin = time.process_time()\n"
        "    print(main(command.split()), 'torch' in sys.modules, time.process_time() - begin)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    errors = ended.stderr.splitlines()
    for command, row, error in zip(commands, ended.stdout.splitlines(), errors, strict=True):
        status, torch_there, seconds = row.split()
        assert (status, torch_there) == ("2", "False"), command
        assert float(seconds) < 1, command
        assert "none" in error
        assert "not found" in error or "neither" in error


def test_each_command_is_a_function_of_the_same_name():
    """But for list, data and status, which show what there is, and windows, which are critical; watch is in Python."""
    import intermode

    verbs = {name.replace("-", "_") for name in cli.COMMANDS} - {"list", "data", "status"}
    sampling = {"sample", "score", "filter", "explore", "explain", "animate", "repair", "windows", "off_support"}
    assert verbs == {"train", *sampling, "reproduce", "bench", "report"}
    for verb in {*verbs - {"windows"}, "critical_windows", "watch"}:
        assert callable(getattr(intermode, verb)), verb


@pytest.mark.parametrize("command", [*cli.COMMANDS, *(f"reproduce {name}" for name in STUDIES)])
def test_help_shows_words_and_no_types_of_python(here, capsys, command):
    with contextlib.suppress(SystemExit):
        cli.main([*command.split(), "--help"])
    said = capsys.readouterr().out
    assert "usage: intermode" in said
    for soup in ("{None}", "[STR [", "[INT [", "None", "tuple", "(default: )"):
        assert soup not in said, soup


def test_list_shows_every_study_with_figures_and_times(done):
    said = done("list")
    for name in STUDIES:
        study = find(name)
        row = next(row for row in said.splitlines() if f" {name} " in row)
        assert study.figures in row
        assert all(study.times[tier] in row for tier in study.tiers)


def test_version_and_help_succeed(done, here):
    assert done("--version").startswith("intermode ")
    assert "gaussian-1d" in done("reproduce", "--help")
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "--help"])
    assert ended.value.code == 0


# what is mistyped


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["trian"], "command: unknown 'trian'; did you mean train? (choose from train, sample, score, filter,"),
        (["reproduce", "gaussian1d"], "study: unknown 'gaussian1d'; did you mean gaussian-1d? (choose from"),
        (["reproduce", "none.py"], "study: none.py is not found"),
        (["reproduce", "--tier", "smoke", "gaussian-1d"], "study: must come before --tier"),
        (
            ["reproduce", "gaussian-1d", "--tier", "quik"],
            "tier: unknown 'quik'; did you mean quick? (choose from smoke,",
        ),
        (["reproduce", "gaussian-1d", "--tier", "smoke", "--tier", "x"], "tier: unknown 'x' (choose from smoke, quick"),
        (["reproduce", "gaussian-1d", "--tier"], "argument '--tier'"),
        (["reproduce", "gaussian-1d", "--model.train.stpes", "3"], "did you mean --model.train.steps?"),
        (["reproduce", "gaussian-1d", "--pool.n", "1e6"], "--pool.n: '1e6' is no whole number; takes INT"),
        (
            ["reproduce", "gaussian-1d", "--model.target.sigma", "x"],
            "sigma: could not convert string to float: 'x'; takes",
        ),
        (["reproduce", "gaussian-1d", "--window", "3"], "'--window'. Expected 2 values"),
        (["reproduce", "gaussian-1d", "--pool.variance", "big"], "variance'. Expected one of ('large', 'small')"),
        (
            ["reproduce", "gaussian-1d-sweeps", "--mode-sets", "1,x"],
            "--mode-sets: could not convert string to float: 'x'",
        ),
        (["train"], "missing: DATA, --out PATH; see intermode train --help"),
        (["sample", "model"], "missing: --n INT, --out PATH; see intermode sample --help"),
        (["sample", "grid", "-n", "5", "--ouut", "x"], "missing: --out PATH; did you mean --out by --ouut?; see"),
        (["list", "x"], "unrecognized options: x"),
        (["report"], "missing: RUN"),
    ],
)
def test_mistyped_commands_name_what_is_meant(refused, args, expected):
    assert expected in refused(*args)


@pytest.mark.parametrize("columns", ["30", "500"])
def test_the_width_of_the_terminal_does_not_cut_the_line(refused, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    assert "missing: DATA, --out PATH; see" in refused("train")


# settings


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("--window 5 3", "window: 5..3 is empty"),
        ("--window -1 5", "window: -1..5 is empty or starts below 0; need 0 <= low <= high"),
        ("--window 0 20", "window: 0..20 is not inside 0..19"),
        ("--model.noise.timesteps 1", "model.noise.timesteps: 1 is too few; T must be at least 2"),
        ("--model.target.sigma 0", "model.target.sigma: must be > 0"),
        ("--model.target.sigma -0.1", "model.target.sigma: must be > 0"),
        ("--model.target.sigma nan", "model.target.sigma: must be > 0"),
        ("--model.target.means 1 inf", "model.target.means: must be finite numbers"),
        ("--model.target.means", "model.target.means: must be finite numbers"),
        ("--pool.n 0", "pool.n: 0 samples asked for; must be at least 1"),
        ("--pool.n -5", "pool.n: -5 samples asked for; must be at least 1"),
        ("--model.size 0", "model.size: 0 must be at least 1"),
        ("--model.seed -1", "model.seed: -1 must be at least 0"),
        ("--model.train.steps 0", "model.train.steps: 0 must be at least 1"),
        ("--model.train.batch 0", "model.train.batch: 0 must be at least 1"),
        ("--model.train.learning-rate inf", "learning_rate: inf must be a finite number"),
        ("--model.noise.beta-end 1", "model.noise.betas: 0.001 to 1.0 must satisfy 0 < beta_start <= beta_end < 1"),
        ("--threads 0", "threads: 0 must be a whole number, at least 1"),
        ("--workers -1", "workers: -1 must be at least 1"),
        ("--device tpu", "device: tpu is not available; choose from cpu"),
        ("--on nowhere", "on: unknown 'nowhere'; choose ray"),
        ("--model.noise.timesteps 1000000000000", "out of memory"),
    ],
)
def test_impossible_settings_name_the_field_and_what_is_allowed(refused, setting, expected):
    assert f"error: {expected}" in refused("reproduce", "gaussian-1d", *TINY, *setting.split(), "--out", "run")


def test_weights_and_widths_of_a_mixture_are_checked():
    """The command line has equal weights; the library takes any that sum to 1."""
    with pytest.raises(InputError, match=r"weights: sum to 0\.9; they must sum to 1"):
        line([1, 2], 0.05, [0.5, 0.4])
    with pytest.raises(InputError, match="weights: must be 2 numbers >= 0"):
        line([1, 2], 0.05, [1.5, -0.5])
    with pytest.raises(InputError, match="sigma: must be > 0"):
        line([1, 2], [0.05, 0.0])
    with pytest.raises(InputError, match="sigma: must be > 0"):
        GaussianMixture(np.zeros((2, 1)), np.full(3, 0.1), np.full(2, 0.5))


# data


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x.npy", np.array([1.0, np.nan, 2.0]), "holds NaN, infinity or numbers too large for float32 in 1 samples"),
        ("x.npy", np.array([1e300, 1.0]), "the first at row 0; all must be finite"),
        ("x.csv", "1\n2\ninf\n", "the first at row 2"),
        ("x.npy", np.zeros((0, 1)), "has shape (0, 1); must be (n, ...) with n at least 1"),
        ("x.npy", np.zeros((4, 0)), "has shape (4, 0)"),
        ("x.npy", np.array(3.0), "has shape ()"),
        (
            "x.npy",
            np.zeros((4, 2, 2)),
            "data: samples of shape (2, 2); without a network it must be",
        ),
        ("x.npy", np.array([1j, 2]), "cannot be read as numbers (it holds complex128)"),
        ("x.npy", np.array(["a", "b"]), "cannot be read as numbers"),
        ("x.npy", np.array([{}, 1], dtype=object), "cannot be read as numbers (Array can't be memory-mapped: Python"),
        ("x.npy", "hello", "cannot be read as numbers"),
        ("x.npy", "", "cannot be read as numbers"),
        ("x.csv", "", "has shape (0, 1)"),
        ("x.csv", "value\n1\n2\n", "could not convert string 'value'"),
        ("x.csv", "1,2\n3\n", "cannot be read as numbers (the number of columns changed from 2 to 1 at row 2)"),
        ("x.csv", b"\xff\xfe1\n", "cannot be read as numbers"),
        ("x.safetensors", b"\x08", "truncated or no safetensors file"),
        ("x.txt", "1\n2\n", "or end in .npy, .csv, .safetensors or .parquet"),
        ("x.npy", None, "data: x.npy not found"),
        ("x.npy", "folder", "data: x.npy holds no images"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_data_that_cannot_be_used(refused, name, content, expected):
    if isinstance(content, np.ndarray):
        with open(name, "wb") as file:
            np.save(file, content)
    elif content == "folder":
        Path(name).mkdir()
    elif content is not None:
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert expected in refused("train", name, "--out", "model", *TRAIN)


def test_data_of_the_wrong_width(refused, model):
    np.save("wide.npy", np.zeros((5, 2)))
    assert "data: each row of wide.npy has shape (2,); must be (1,)" in refused(
        "score", model, "wide.npy", "--out", "scores.npy"
    )


# models


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            lambda m: m.rename("other"),
            "model not found; give a folder or a shipped model, diamond, gaussian-1d, grid, shapes, ",
        ),
        (lambda m: (m / "config.json").unlink(), "config.json: not found"),
        (lambda m: (m / "model.safetensors").unlink(), "model.safetensors: not found"),
        (lambda m: os.truncate(m / "model.safetensors", 200), "truncated"),
        (lambda m: os.truncate(m / "config.json", 20), "truncated"),
        (lambda m: (m / "model.safetensors").write_bytes(pickle.dumps({"w": 1})), "pickles are not loaded"),
    ],
)
def test_models_that_cannot_be_used(refused, model, data, damage, expected):
    damage(model)
    assert expected in refused("sample", model, "--n", "5", "--out", "samples")
    assert expected in refused("score", model, "data.npy", "--out", "s.npy")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("--n 0", "n: 0 must be a whole number, at least 1"),
        ("--n 5 --window 5 3", "window: 5..3 is empty"),
        ("--n 5 --window 0 20", "window: 0..20 is not inside 0..19"),
        ("--n 5 --steps 1", "steps: 1 is outside 2..20"),
        ("--n 5 --steps 5 --window 1 3", "window: 1..3 holds 0 of the 5 visited timesteps"),
        ("--n 5 --sampler ddim --eta 2", "eta: 2.0 is outside 0..1"),
        ("--n 5 --chunk 0", "chunk: 0 must be a whole number, at least 1"),
        ("--n 5 --seed -1", "seed: -1 must be a whole number, at least 0"),
        ("--n 5 --threads 0", "threads: 0 must be a whole number, at least 1"),
        ("--n 5 --device tpu", "device: tpu is not available; choose from cpu"),
        ("--n 5 --detectors lod", "detector: unknown 'lod'; did you mean lid? (choose from hal, "),
        ("--n 5 --detectors hal hal", "detectors: the names hal, hal repeat; give each its own"),
        (
            "--n 5 --detectors random --window 0 5",
            "window: is of no use to random; only detectors that look",
        ),
        ("--n 5 --detectors knn", "knn: must be fitted on training data first; give some as fit"),
        ("--n 5 --by hal", "by: is of use only with keep"),
        ("--n 5 --keep-below 1 --by lod", "by: no detector 'lod' to keep samples by; choose from hal"),
    ],
)
def test_sampling_settings(refused, model, setting, expected):
    assert f"error: {expected}" in refused("sample", model, "--out", "samples", *setting.split())


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("--detectors hal-renoise --window 0 20", "window: 0..20 is not inside 0..19"),
        ("--detectors hal-renoise --window 3 1", "window: 3..1 is empty"),
        ("--detectors hal-renoise --count 1", "count: 1 is outside 2..16"),
        ("--detectors random --window 0 5", "window: is of no use to random; only detectors that look"),
        ("--count 5", "count: timesteps are spread over a window; give window too"),
        ("--window 3", "window: 3 is neither two timesteps, LOW HIGH, nor snr:LOW,HIGH"),
        ("--window snr:1", "window: snr:1 is neither two timesteps"),
        ("--window 1 x", "window: 1 x is neither two timesteps"),
        ("--window snr:2,1", "window: a signal-to-noise ratio of 2 to 1; need 0 <= low < high"),
        ("--detectors nowhere:Mine", "detector: nowhere:Mine: cannot import nowhere"),
        ("--labels labels.npy", "class_labels: 0..1; the model has 0 classes"),
        ("--labels words.csv", "labels: words.csv must hold whole numbers, the classes from 0"),
        ("--labels none.npy", "labels: none.npy not found"),
        ("--seed -1", "seed: -1 must be a whole number, at least 0"),
        ("--out s.txt", "out: s.txt must be a file that ends in .parquet, .csv or .npy"),
        ("--out data.npy", "out: data.npy is the data itself"),
    ],
)
def test_scoring_settings(refused, model, data, setting, expected):
    out = [] if "--out" in setting else ["--out", "s.npy"]
    Path("words.csv").write_text("cat\n" * 300)
    assert f"error: {expected}" in refused("score", model, "data.npy", *out, *setting.split())


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("", "threshold: give exactly one of kept, reference and labels (got 0)"),
        ("--kept 0.5 --labels labels.npy", "threshold: give exactly one of kept, reference and labels (got 2)"),
        ("--kept 98", "kept: 98.0 must lie strictly between 0 and 1"),
        ("--kept nan", "kept: nan must be a finite number"),
        ("--reference few.npy", "alpha: 0.01 needs at least 99 in-support scores; there are 5"),
        ("--reference scores.npy --alpha 0", "alpha: 0.0 must lie strictly between 0 and 1"),
        ("--reference none.npy", "reference: none.npy not found"),
        ("--labels few.npy", "labels: few.npy must hold 300 values, one for each sample; it holds 5"),
        ("--labels labels.npy --removed 1.5", "removed: 1.5 must lie strictly between 0 and 1"),
        ("--kept 0.5 --scores few.npy", "scores: 5 for 300 samples; need one for each"),
        ("--kept 0.5 --scores wide.npy", "scores: each row of wide.npy has shape (2,); must be (1,)"),
        ("--kept 0.5 --out labels.npy", "out: labels.npy is not an empty folder"),
    ],
)
def test_filter_settings(refused, data, setting, expected):
    np.save("few.npy", np.arange(5))
    np.save("wide.npy", np.zeros((300, 2)))
    more = setting.split() + ([] if "--out" in setting else ["--out", "out"])
    more += [] if "--scores" in setting else ["--scores", "scores.npy"]
    assert f"error: {expected}" in refused("filter", "data.npy", *more)


def test_an_array_without_scores_needs_them(refused, data):
    assert "scores: data.npy holds none; give scores" in refused("filter", "data.npy", "--kept", "0.9", "--out", "o")


# output folders


def test_a_folder_of_another_run_is_refused_and_says_how_it_differs(refused, done, here):
    args = ["reproduce", "gaussian-1d", *TINY, "--out", "run"]
    assert "report: run/report.html" in done(*args)
    assert "out: run holds another run (config.points is 64 there and 65 here)" in refused(*args, "--points", "65")
    said = refused("reproduce", "score-field", "--tier", "smoke", "--out", "run")
    assert "out: run holds another run (study is gaussian-1d there and score-field here" in said


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        ("file", "out: file is not empty and holds no run"),
        ("file/run", "file/run: Not a directory"),
        ("full", "out: full is not empty and holds no run"),
        (".", "out: . is not empty and holds no run"),
        ("/proc/none/run", "No such file or directory"),
    ],
)
def test_an_output_path_that_cannot_be_used(refused, out, expected):
    Path("file").touch()
    Path("full").mkdir()
    Path("full/note.txt").touch()
    assert expected in refused("reproduce", "gaussian-1d", *TINY, "--out", out)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_without_permission(refused):
    Path("locked").mkdir()
    Path("locked").chmod(0o500)
    assert "Permission denied" in refused("reproduce", "gaussian-1d", *TINY, "--out", "locked/run")


def test_a_training_does_not_give_out_another_models_weights(done, refused, data):
    done("train", "data.npy", "--out", "model", *TRAIN)
    done("train", "data.npy", "--out", "model", *TRAIN)
    said = refused("train", "data.npy", "--out", "model", *TRAIN, "--seed", "1")
    assert "out: model holds another training (seed is 0 there and 1 here)" in said
    np.save("other.npy", data + 1)
    assert "data is" in refused("train", "other.npy", "--out", "model", *TRAIN)


@pytest.mark.parametrize("command", ["train", "sample"])
def test_a_folder_with_other_things_in_it_stays_as_it_is(refused, model, data, command):
    Path("mine").mkdir()
    Path("mine/config.json").write_text('{"of": "somebody else"}')
    args = ["data.npy", *TRAIN] if command == "train" else [model, "--n", "5"]
    assert "out: mine is not an empty folder" in refused(command, *args, "--out", "mine")


def test_samples_of_another_model_are_not_given_out(done, refused, model, network):
    done("sample", model, "--n", "5", "--out", "samples")
    save_model(model, NetworkDenoiser(network(seed=4), linear(20)), {"seed": 4})
    assert "holds other samples (model:" in refused("sample", model, "--n", "5", "--out", "samples")
    assert "(n: 5 there, 6 asked for)" in refused("sample", model, "--n", "6", "--out", "samples")


@pytest.mark.parametrize("content", [None, "[", "{}", "[1]", '{"experiment": "x"}'])
def test_a_report_needs_a_finished_run(refused, content):
    if content:
        Path("run").mkdir()
        Path("run/metrics.json").write_text(content)
    assert "run" in refused("report", "run")


# a full disk


@pytest.mark.parametrize(
    "args",
    [
        ["train", "data.npy", "--out", "new", *TRAIN],
        ["sample", "model", "--n", "5", "--out", "new"],
        ["score", "model", "data.npy", "--out", "new.npy"],
        ["filter", "data.npy", "--scores", "scores.npy", "--kept", "0.5", "--out", "new"],
    ],
)
def test_a_full_disk_says_so_and_leaves_no_half_file(here, model, data, monkeypatch, capsys, done, args):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = tree(here)
    with monkeypatch.context() as patched:
        patched.setattr("intermode.files.os.fsync", full)
        assert cli.main(args) == 2
    said = capsys.readouterr().err
    assert said == "error: No space left on device; free some space and run the same command again\n"
    assert {k: v for k, v in tree(here).items() if v is not None} == {k: v for k, v in before.items() if v is not None}
    done(*args)  # with space again, the same command goes through


def test_a_file_system_that_takes_no_more_bytes(here, data):
    """The real thing: the system itself refuses the write, in the middle of a file."""
    np.save("many.npy", np.zeros(100_000))
    np.save("scores.npy", np.arange(100_000.0))
    code = (
        "import resource, signal, sys; from intermode.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536)); signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "sys.exit(main('filter many.npy --scores scores.npy --kept 0.5 --out new'.split()))"
    )
    before = tree(here)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr == "error: File too large\n"
    assert tree(here) == before


# an interrupt


# from data to kept samples


def test_an_interrupt_leaves_a_training_that_goes_on_to_the_same_result(here, data, capsys):
    # a checkpoint is written after 1000 steps
    args = shlex.split("train data.npy --steps 3000 --batch 10 --width 8 --timesteps 20 --out 'my model'")
    process = subprocess.Popen(
        [sys.executable, "-m", "intermode", *args],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # tests in the background of a script inherit that interrupts are ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    checkpoint = Path("my model/checkpoint.safetensors")
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    last = said.splitlines()[-1]
    assert last == "interrupted; finished parts are kept, go on with: intermode " + shlex.join(args)
    assert "Traceback" not in said
    assert checkpoint.exists()
    assert not Path("my model/config.json").exists()

    assert cli.main(args) == 0
    assert "training goes on after step" in capsys.readouterr().err
    assert cli.main([*args[:-1], "unbroken"]) == 0
    assert Path("my model/model.safetensors").read_bytes() == Path("unbroken/model.safetensors").read_bytes()


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_train_sample_score_filter(here, done, suffix):
    points = line([1, 2, 3]).sample(300, 0).numpy()
    source = Path(f"data{suffix}")
    np.save(source, points) if suffix == ".npy" else np.savetxt(source, points)
    before = source.read_bytes()

    assert "model: model" in done("train", source, "--out", "model", *TRAIN)
    assert sorted(p.name for p in Path("model").iterdir()) == ["config.json", "model.safetensors", "training.json"]
    assert "40 samples of " in done("sample", "model", "-n", "40", "--out", "drawn", "--window", "0", "5")
    tensors, _ = load_tensors(Path("drawn/samples.safetensors"))
    assert tensors["samples"].shape == (40, 1)
    assert set(tensors) == {"samples", "score.hal", "diverged"}
    assert tensors["score.hal"].shape == tensors["diverged"].shape == (40,)
    assert torch.isfinite(tensors["samples"]).all()
    assert (tensors["score.hal"] > 0).all()
    done("sample", "model", "--n", "40", "--out", "both", "--window", "0", "5", "--detectors", "hal", "lid")
    both, _ = load_tensors(Path("both/samples.safetensors"))
    assert set(both) == {"samples", "score.hal", "score.lid", "diverged"}
    assert torch.equal(both["score.hal"], tensors["score.hal"])

    done("score", "model", source, "--out", "best.csv")
    assert Path("best.csv").read_text().startswith("id,lid\n")
    paper = ["--detectors", "hal-renoise", "--count", "4"]
    done("score", "model", source, "--out", "scores.csv", *paper)
    done("score", "model", source, "--out", "scores.npy", *paper)
    scores = np.load("scores.npy")
    assert scores.shape == (300,)
    listed = np.loadtxt("scores.csv", delimiter=",", skiprows=1)
    assert np.array_equal(listed, np.stack([np.arange(300), scores], 1))  # every digit is written
    assert Path("scores.csv").read_text().startswith("id,hal-renoise\n")

    said = done("filter", source, "--scores", "scores.npy", "--kept", "0.9", "--out", "out")
    assert said.startswith("270 of 300 kept (90 %): score up to ")
    rows, kept_scores = listed_in("out/kept_scores.csv")
    assert np.array_equal(kept_scores, scores[rows])
    assert np.array_equal(rows, np.sort(np.argsort(scores)[:270]))
    if suffix == ".npy":
        assert np.array_equal(np.load("out/kept.npy"), points[rows])
    else:
        assert Path("out/kept.csv").read_text().split() == [before.decode().split()[row] for row in rows]
    assert source.read_bytes() == before


def test_samples_are_filtered_by_their_own_scores(done, model):
    done("sample", model, "--n", "40", "--out", "drawn", "--detectors", "hal", "lid")
    source = Path("drawn/samples.safetensors")
    before = source.read_bytes()
    done("filter", source, "--kept", "0.75", "--out", "out")
    done("filter", source, "--kept", "0.75", "--out", "papers", "--by", "hal")
    for out, name in (("out", "lid"), ("papers", "hal")):
        drawn, kept, rejected = (
            load_tensors(p)[0] for p in (source, Path(f"{out}/kept.safetensors"), Path(f"{out}/rejected.safetensors"))
        )
        order = drawn[f"score.{name}"].argsort()
        assert torch.equal(kept["samples"], drawn["samples"][order[:30].sort()[0]])
        assert torch.equal(rejected[f"score.{name}"], drawn[f"score.{name}"][order[30:].sort()[0]])
    assert source.read_bytes() == before


def test_scoring_ends_with_what_was_found_and_what_comes_next(done, model, data):
    said = done("score", model, "data.npy", "--out", "two.csv", "--detectors", "lid", "random")
    first, lid, rand, last = said.splitlines()
    assert first == "scores: two.csv (300)"
    columns = np.loadtxt("two.csv", delimiter=",", skiprows=1)[:, 1:]
    for row, name, values in zip((lid, rand), ("lid", "random"), columns.T, strict=True):
        low, middle, high = np.quantile(values, [0, 0.5, 1], method="nearest")
        assert row == f"  {name}: lowest {low:.4g}, median {middle:.4g}, highest {high:.4g}"
    assert last == "next: intermode filter data.npy --scores two.csv --by lid --kept 0.9 --out data-filtered"
    said = done(*shlex.split(last)[2:])
    assert said.startswith("270 of 300 kept (90 %): lid up to ")
    assert np.load("data-filtered/kept.npy").shape == (270,)


def test_a_window_is_a_pair_of_timesteps_or_a_range_of_ratios(done, model, data):
    """The steps of one schedule whose ratio lies in a range are those between two timesteps."""
    schedule = linear(20)
    ratio = [(a / s) ** 2 for a, s in map(schedule.level, range(20))]
    between = f"snr:{ratio[9] * 0.99},{ratio[2] * 1.01}"
    for words in (["sample", model, "-n", "8", "--detectors", "hal", "lid"], ["score", model, "data.npy"]):
        found = []
        for window in (["2", "9"], [between], ["3", "9"]):
            out = f"{words[0]}-{len(found)}" + (".npy" if words[0] == "score" else "")
            done(*words, "--window", *window, "--out", out)
            file = Path(out, "samples.safetensors")
            found.append(load_tensors(file)[0]["score.lid"].numpy() if file.exists() else np.load(out))
        assert np.array_equal(found[0], found[1])
        assert not np.array_equal(found[0], found[2])


def test_detectors_of_ones_own_score_by_name(done, model, data):
    Path("my_detectors.py").write_text(
        "class Far:\n"
        "    name, nfe = 'far', 0\n"
        "    def check(self, schedule): pass\n"
        "    def __call__(self, denoiser, x, noise, **condition): return x.double().flatten(1).norm(dim=1)\n"
    )
    try:
        done("score", model, "data.npy", "--out", "far.npy", "--detectors", "my_detectors:Far")
        done("sample", model, "-n", "5", "--out", "drawn", "--detectors", "hal", "my_detectors:Far")
    finally:
        sys.modules.pop("my_detectors", None)
    assert np.allclose(np.load("far.npy"), np.abs(data), rtol=1e-6)
    tensors, _ = load_tensors(Path("drawn/samples.safetensors"))
    assert torch.allclose(tensors["score.far"], tensors["samples"].double().norm(dim=1))


def test_training_shows_the_detectors_data(done, model, data):
    done("score", model, "data.npy", "--out", "near.npy", "--detectors", "knn", "--fit", "data.npy")
    assert np.load("near.npy").shape == (300,)


def test_samples_are_drawn_until_enough_pass_a_saved_threshold(done, refused, model):
    done("sample", model, "-n", "100", "--out", "drawn")
    done("filter", "drawn/samples.safetensors", "--kept", "0.5", "--out", "out")
    limit = json.loads(Path("out/threshold.json").read_text())["value"]
    said = done("sample", model, "-n", "20", "--out", "best", "--keep-below", "out/threshold.json", "--chunk", "20")
    assert "drawn: " in said
    scores = load_tensors(Path("best/samples.safetensors"))[0]["score.hal"]
    assert scores.shape == (20,)
    assert (scores <= limit).all()
    args = ["sample", model, "-n", "20", "--out", "new", "--keep-below"]
    assert "by: the threshold is one of hal, not of lid" in refused(*args, "out/threshold.json", "--by", "lid")
    assert "keep-below: x is neither a number nor a threshold.json" in refused(*args, "x")


@pytest.fixture
def told(here):
    """A model of 8×8 images that is told one of three classes."""
    network = build(default_network((1, 8, 8), 3), 0)
    save_model(Path("told"), NetworkDenoiser(network, linear(6)), {})
    return Path("told")


def test_a_model_of_classes_draws_all_in_turn_or_those_given(done, told):
    window = ["--window", "1", "4"]
    said = done("sample", told, "-n", "7", "--out", "turns", *window)
    assert said.splitlines()[0] == "classes: 0..2 in turn, as many of each; --labels chooses others"
    np.save("own.npy", np.arange(7) % 3)
    said = done("sample", told, "-n", "7", "--out", "own", "--labels", "own.npy", *window)
    assert "classes" not in said
    turns, own = (load_tensors(Path(out, "samples.safetensors"))[0] for out in ("turns", "own"))
    assert torch.equal(turns["samples"], own["samples"])
    np.save("own.npy", np.full(7, 1))
    done("sample", told, "-n", "7", "--out", "ones", "--labels", "own.npy", *window)
    ones = load_tensors(Path("ones/samples.safetensors"))[0]
    same = [torch.equal(a, b) for a, b in zip(turns["samples"], ones["samples"], strict=True)]
    assert same == [False, True, False, False, True, False, False]


def test_samples_without_classes_are_scored_under_the_best(done, told):
    np.save("images.npy", np.random.default_rng(0).normal(size=(6, 1, 8, 8)).astype(np.float32))
    found = []
    for k in range(3):
        np.save("labels.npy", np.full(6, k))
        done("score", told, "images.npy", "--out", f"{k}.npy", "--detectors", "residual", "--labels", "labels.npy")
        found.append(np.load(f"{k}.npy"))
    done("score", told, "images.npy", "--out", "best.npy", "--detectors", "residual")
    assert np.array_equal(np.load("best.npy"), np.min(found, axis=0))


def test_a_share_that_keeps_all_is_one_line(here, capsys):
    np.save("few.npy", np.arange(8.0))
    assert cli.main(shlex.split("filter few.npy --scores few.npy --kept 0.9 --out out")) == 0
    assert capsys.readouterr().err == "warning: kept: a share of 0.9 keeps all 8 samples\n"


def test_images_train_a_model_that_samples_them(done, here):
    rng = np.random.default_rng(0)
    Path("images").mkdir()
    for k in range(6):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(f"images/{k}.png")
    Path("images/broken.png").write_bytes(b"no image")
    done("train", "images", "--out", "model", "--steps", "2", "--batch", "2", "--timesteps", "5")
    np.save("bytes.npy", rng.integers(0, 256, (6, 8, 8), dtype=np.uint8))
    done("train", "bytes.npy", "--out", "grey", "--steps", "2", "--batch", "2", "--timesteps", "5")
    for name, shape in (("model", (3, 3, 8, 8)), ("grey", (3, 1, 8, 8))):
        done("sample", name, "-n", "3", "--out", f"from {name}", "--window", "0", "4")
        assert load_tensors(Path(f"from {name}/samples.safetensors"))[0]["samples"].shape == shape


def test_the_mass_of_a_model_off_the_support(done, refused, here):
    said = done("off-support", "gaussian-1d", "line", "--steps", "20")
    assert said.startswith("off the support: ")
    value, sign, error = said.split()[3:]
    assert sign == "±"
    assert 0 < float(error) < float(value) < 1
    assert "sampler: every step but the last must add noise" in refused(
        "off-support", "grid", "grid", "--sampler", "ddim"
    )
    assert "target" in refused("off-support", "grid", "gird")


@pytest.mark.parametrize(
    ("way", "value", "kept"),
    [
        # the 270th smallest of 300
        ("--kept 0.9", lambda s, bad: np.sort(s)[269], 270),
        # ceil(101 * 0.8) = 81st smallest of the 100 reference scores 0.01..1
        ("--reference good.npy --alpha 0.2", lambda s, bad: 0.81, None),
        # at least 95 % of the hallucinations lie over it, and no sample between it and the next one
        ("--labels labels.npy --removed 0.95", None, None),
    ],
)
def test_the_three_thresholds(done, here, data, way, value, kept):
    np.save("good.npy", np.arange(1, 101) / 100)
    before = tree(here)
    scores, bad = np.abs(data), np.load("labels.npy") == 1
    done("filter", "data.npy", "--scores", "scores.npy", *way.split(), "--out", "out")
    record = json.loads(Path("out/threshold.json").read_text())
    rows, rejected = listed_in("out/kept_scores.csv")[0], listed_in("out/rejected_scores.csv")[0]
    assert np.array_equal(np.sort(np.concatenate([rows, rejected])), np.arange(300))
    assert scores[rows].max() <= record["value"]
    assert scores[rejected].min() > record["value"]
    if value:
        assert record["value"] == pytest.approx(value(scores, bad), rel=1e-6)
    else:
        removed = bad[rejected].sum() / bad.sum()
        assert removed >= 0.95
        assert (bad[rejected].sum() - 1) / bad.sum() < 0.95  # and no more are lost than needed
    assert record["samples"] == 300
    assert record["kept"] == len(rows) == (kept or len(rows))
    assert np.array_equal(np.load("out/kept.npy"), data[rows])
    assert np.array_equal(np.load("out/rejected.npy"), data[rejected])
    after = tree(here)
    assert all(after[name] == content for name, content in before.items())


def test_whatever_an_array_holds_it_comes_out_of_the_filter_unchanged(done, here):
    images = np.random.default_rng(1).integers(0, 256, (20, 3, 2), dtype=np.uint8)
    np.save("images.npy", images)
    save_tensors(Path("half.safetensors"), {"images": torch.from_numpy(images).half()})
    np.save("scores.npy", np.arange(20.0))
    done("filter", "images.npy", "--scores", "scores.npy", "--kept", "0.5", "--out", "a")
    kept = np.load("a/kept.npy")
    assert kept.dtype == np.uint8
    assert np.array_equal(kept, images[:10])
    done("filter", "half.safetensors", "--scores", "scores.npy", "--kept", "0.5", "--out", "b")
    assert torch.equal(load_tensors(Path("b/kept.safetensors"))[0]["images"], torch.from_numpy(images[:10]).half())
