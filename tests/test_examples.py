"""Each script of examples/ runs as its first lines say, and the notebook does and shows what it says."""

import importlib.util
import itertools
import re
import runpy
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))
NOTEBOOK = EXAMPLES / "own_pipeline.ipynb"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a script in an empty folder and returns what it printed."""
    monkeypatch.chdir(tmp_path)

    def ran(name, *args):
        monkeypatch.setattr(sys, "argv", [name, *map(str, args)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return ran


def listed(printed):
    """Scores and files, of lines that hold both."""
    found = re.findall(r"^ *(\S+)  (\S+\.\w+)$", printed, flags=re.M)
    return [float(score) for score, _ in found], [name for _, name in found]


def pictures(folder, count):
    """Images of several sizes, grey and in colour, in two folders."""
    rng = np.random.default_rng(0)
    for k in range(count):
        path = folder / "ab"[k % 2] / f"{k:02}.{'png' if k % 3 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (9 + k, 12, 3)[: 2 + k % 2]
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(path)


def test_images_from_elsewhere(run, tmp_path):
    tiny.ddpm().save_pretrained("my-model")
    pictures(tmp_path / "my-images", 12)
    before = {path: path.read_bytes() for path in (tmp_path / "my-images").rglob("*.*")}
    printed = run("images_from_elsewhere.py", "my-model", "my-images", "--kept", 0.75)
    assert printed.startswith("9 of 12 kept (75 %): lid up to ")
    scores, names = listed(printed)
    assert len(names) == len(set(names)) == 10
    assert all(Path(name) in {path.relative_to(tmp_path) for path in before} for name in names)
    assert scores == sorted(scores, reverse=True)
    assert {path: path.read_bytes() for path in (tmp_path / "my-images").rglob("*.*")} == before
    assert (tmp_path / "samples-explorer.html").stat().st_size > 10_000


def test_stable_diffusion(run, tmp_path):
    pytest.importorskip("transformers")
    tiny.stable_diffusion(tmp_path).save_pretrained("my-model")
    printed = run("stable_diffusion.py", "my-model", "a red square", "-n", 6, "--steps", 12, "--out", "made")
    scores, names = listed(printed)
    assert names == [f"made/{rank:03}.png" for rank in range(6)]
    assert scores == sorted(scores)
    assert len(set(scores)) > 1
    images = [np.asarray(Image.open(name)) for name in names]
    assert len({image.tobytes() for image in images}) == 6


def karras(n, low, high, rho=7.0):
    """The noise levels of Karras et al. 2022, eq. 5, and 0 at the end."""
    ends = np.array([high, low]) ** (1 / rho)
    return torch.tensor([*((ends[0] + np.linspace(0, 1, n) * (ends[1] - ends[0])) ** rho), 0.0], dtype=torch.float32)


def ancestral(model, x, sigmas, callback=None):
    """Euler's steps with noise, by the interface that k-diffusion documents."""
    for i, (sigma, after) in enumerate(itertools.pairwise(sigmas)):
        denoised = model(x, sigma * x.new_ones(len(x)))
        callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})
        up = min(after, float(after**2 * (sigma**2 - after**2) / sigma**2) ** 0.5)
        x = denoised + (x - denoised) / sigma * (after**2 - up**2) ** 0.5 + torch.randn_like(x) * up
    return x


@pytest.mark.parametrize("model", ["gaussian-1d", "my-model"])
def test_k_diffusion_sampler(run, monkeypatch, model):
    """With k-diffusion itself where it is installed, and else with a sampler that calls back as its do."""
    if importlib.util.find_spec("k_diffusion") is None:
        sampling = types.SimpleNamespace(get_sigmas_karras=karras, sample_euler_ancestral=ancestral)
        monkeypatch.setitem(sys.modules, "k_diffusion", types.SimpleNamespace(sampling=sampling))
    if model == "my-model":
        tiny.ddpm().save_pretrained("my-model")
    torch.manual_seed(0)
    printed = run("k_diffusion_sampler.py", model, "-n", 20, "--steps", 30)
    assert printed.startswith("18 of 20 kept (90 %): hal up to ")
    assert len(re.findall(r"\d\.\d*", printed.partition("scores:")[2])) == 20
    if model == "gaussian-1d":  # whose modes are 1, 2, 3: the samples are no noise
        low, high = map(float, re.search(r"samples from (\S+) to (\S+);", printed).groups())
        assert 0.5 < low < high < 3.5


def test_azula_denoiser(run, monkeypatch):
    """With azula itself where it is installed, and else with a denoiser by the interface that it documents."""
    if importlib.util.find_spec("azula") is None:
        for name in ("azula", "azula.denoise", "azula.noise"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        sys.modules["azula.denoise"].KarrasDenoiser = Preconditioned
        sys.modules["azula.noise"].VPSchedule = Cosine
    printed = run("azula_denoiser.py", "--steps", 300)
    assert printed.startswith("900 of 1,000 kept (90 %): hal up to ")
    kept, dropped = (
        float(x) for x in re.search(r"average: (\S+) of what is kept, (\S+) of the rest", printed).groups()
    )
    assert 0 < kept < dropped < 2  # the score finds what is far from the data


class Cosine(torch.nn.Module):
    """azula: a schedule gives alpha and sigma of the times t in 0..1."""

    def forward(self, t):
        angle = 0.001 + t * (torch.pi / 2 - 0.002)
        return torch.cos(angle), torch.sin(angle)


class Preconditioned(torch.nn.Module):
    """azula: a denoiser is called with (x_t, t), has a loss(x, t) for each sample, and its posterior has a mean."""

    def __init__(self, backbone, schedule):
        super().__init__()
        self.backbone, self.schedule = backbone, schedule

    def forward(self, x_t, t):
        alpha, sigma = (level.reshape(-1, 1).to(x_t.dtype) for level in self.schedule(t))
        return types.SimpleNamespace(mean=alpha * x_t + sigma * self.backbone(x_t, t))

    def loss(self, x, t):
        alpha, sigma = (level.reshape(-1, 1) for level in self.schedule(t))
        return ((self(alpha * x + sigma * torch.randn_like(x), t).mean - x) / sigma).square().mean(1)


def test_datasets_set(run):
    datasets = pytest.importorskip("datasets")
    tiny.ddpm().save_pretrained("my-model")
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (10, 10, 3), dtype=np.uint8)) for _ in range(20)]
    datasets.Dataset.from_dict({"image": images, "name": [f"n{k}" for k in range(20)]}).save_to_disk("mine")
    printed = run("datasets_set.py", "my-model", "mine", "--kept", 0.75, "--out", "kept")
    assert "15 of 20 kept (75 %): lid up to " in printed
    kept = datasets.load_from_disk("kept")
    assert set(kept.column_names) == {"image", "name", "lid"}
    limit = float(re.search(r"lid up to (\S+)", printed)[1])
    assert max(kept["lid"]) == pytest.approx(limit, rel=1e-3)
    assert len(set(kept["name"])) == len(kept) == 15
    k = int(kept["name"][3][1:])
    assert np.array_equal(np.asarray(kept["image"][3]), np.asarray(images[k]))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_short_explains_itself_and_is_tested_and_in_the_table(name):
    text = (EXAMPLES / name).read_text()
    assert len(text.splitlines()) <= 40
    assert re.search(rf"^ *python {name}", text.split('"""')[1], flags=re.M)
    assert f"[{name}]({name})" in (EXAMPLES / "README.md").read_text()
    assert f"test_{Path(name).stem}" in globals()


def test_the_table_leads_to_what_is_there():
    linked = re.findall(r"\]\(([^)]+)\)", (EXAMPLES / "README.md").read_text())
    assert sorted(linked) == sorted([*SCRIPTS, NOTEBOOK.name])
