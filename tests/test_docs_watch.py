"""docs/watch.md runs as it is written, and its table is what the code does."""

import re
import runpy
import shlex
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import tiny_pipelines as tiny
from PIL import Image

from intermode.cli import main

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "watch.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
COMMANDS = re.findall(r"```sh\n(.*?)```", PAGE, flags=re.S)
NEEDS_TRANSFORMERS = "StableDiffusionPipeline"


def test_every_snippet_runs(tmp_path, monkeypatch):
    """In order, as one reader would, with models of those names in the folder."""
    monkeypatch.chdir(tmp_path)
    tiny.ddpm().save_pretrained("my-model")
    text = find_spec("transformers") is not None
    if text:
        tiny.stable_diffusion(tmp_path).save_pretrained("my-text-to-image-model")
    assert sum(NEEDS_TRANSFORMERS in snippet for snippet in SNIPPETS) == 1
    names = {}
    for snippet in SNIPPETS:
        if text or NEEDS_TRANSFORMERS not in snippet:
            exec(compile(snippet, "docs/watch.md", "exec"), names)
        # what the comments promise
        if "kept = [image" in snippet:
            assert (len(names["images"]), names["scores"].shape) == (6, (6,))
            assert 4 <= len(names["kept"]) <= 6
        elif "detectors = [" in snippet:
            assert set(names["watched"].scores) == {"times", "part", "ratio", "sigma"}
        elif "LastChange()" in snippet:
            assert (names["watched"].scores["last-change"] > 0).all()
        elif "detector.score()" in snippet or "callback.finish" in snippet:
            assert tuple(names["scores"].shape) == (8,)
            assert np.isfinite(np.asarray(names["scores"])).all()


def test_every_command_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pipe = tiny.ddpm()
    pipe.save_pretrained("my-model")
    size = pipe.unet.config.sample_size
    rng = np.random.default_rng(0)
    for folder in ("my-images", "good-images"):
        (tmp_path / folder).mkdir()
        for k in range(20):
            pixels = rng.integers(0, 256, (size, size, pipe.unet.config.in_channels), dtype=np.uint8)
            Image.fromarray(pixels.squeeze()).save(tmp_path / folder / f"{k:02d}.png")
    commands = [line for block in COMMANDS for line in block.strip().splitlines()]
    assert len(commands) == 5
    for line in commands:
        program, *args = shlex.split(line)
        assert program == "intermode"
        assert main(args) == 0, capsys.readouterr().err
    assert len(list((tmp_path / "best" / "kept").glob("*.png"))) == 18
    assert (tmp_path / "guaranteed" / "sheet.png").exists()


def test_the_table_of_schedulers_is_what_the_code_does():
    assert runpy.run_path(str(ROOT / "benchmarks" / "schedulers_table.py"))["filled"](PAGE) == PAGE
