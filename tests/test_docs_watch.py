"""docs/watch.md runs as it is written, and its table is what the code does."""

import json
import re
import runpy
import shlex
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from PIL import Image

from intermode.cli import main

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "watch.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
COMMANDS = re.findall(r"```sh\n(.*?)```", PAGE, flags=re.S)
NEEDS_TRANSFORMERS = "StableDiffusionPipeline"


@pytest.fixture
def threads():
    """The page chooses how many torch uses."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_every_snippet_runs(tmp_path, monkeypatch, capsys, threads):
    """In order, as one reader would, with models of those names in the folder."""
    monkeypatch.chdir(tmp_path)
    tiny.ddpm().save_pretrained("my-model")
    text = find_spec("transformers") is not None
    if text:
        tiny.stable_diffusion(tmp_path).save_pretrained("my-text-to-image-model")
    names, promised = {}, []
    for snippet in SNIPPETS:
        if NEEDS_TRANSFORMERS in snippet and not text:
            continue
        exec(compile(snippet, "docs/watch.md", "exec"), names)
        printed = capsys.readouterr().out
        # what the page says of it
        if "scores = watched.scores" in snippet:
            promised.append("scores")
            assert (len(names["images"]), names["scores"].shape) == (8, (8,))
        elif "within=colours" in snippet:
            promised.append("within")
            assert printed.startswith("6 of 8 kept (75 %), within each label")
            assert len(list(Path("best/kept").glob("*.png"))) == 6
            assert Path("best/sheet.png").exists()
        elif "watched.keep" in snippet:
            promised.append("keep")
            assert printed.startswith("6 of 8 kept (75 %): hal up to ")
            assert [id(image) for image in names["kept"]] == [
                id(names["images"][i]) for i in sorted(np.argsort(names["scores"])[:6])
            ]
        elif "set_timesteps" in snippet:
            promised.append("loop")
            assert names["watched"].scores["hal"].shape == (4,)
        elif "windows = [" in snippet:
            promised.append("windows")
            assert set(names["watched"].scores) == {"times", "part", "ratio", "sigma"}
            bad = names["watched"].scores["sigma"][1]
            assert f"{(names['watched'].scores['sigma'] < bad).sum()} of 4 kept" in printed.splitlines()[3]
        elif NEEDS_TRANSFORMERS in snippet:
            assert names["watched"].scores["hal"].shape == (2,)
        elif "set_num_threads" in snippet:
            promised.append("threads")
            assert torch.get_num_threads() >= 1
        elif "LastChange()" in snippet:
            promised.append("detector")
            assert set(names["watched"].scores) == {"hal", "last-change"}
            assert (names["watched"].scores["last-change"] > 0).all()
        elif '"shapes"' in snippet:
            promised.append("shapes")
            assert type(names["shapes"].unet).__name__ == "PatchUNet2DModel"
    assert len(promised) == len(SNIPPETS) - 1 == 8


def test_the_squares_are_ranked_by_colour_as_the_page_says():
    squares = runpy.run_path(str(ROOT / "benchmarks" / "coloured_squares.py"))
    scores, colours, off = squares["sampled"]()
    assert off < 1e-3  # all of them are images of the data
    for line in squares["told"](scores, colours).splitlines():
        assert line in PAGE
    # and not by the chance of one seed: of 16, about 9 would be of that colour
    for seed in (1, 2, 3):
        scores, colours, _ = squares["sampled"](seed)
        order = np.argsort(scores)
        assert (colours[order[:16]] == "red").sum() >= 13
        assert (colours[order[-16:]] == "green").sum() >= 13


def test_what_the_page_says_of_shapes_was_measured():
    """Of ten images with two of a kind none is removed, and few of those that are off the support."""
    metrics = json.loads((ROOT / "results" / "shapes" / "quick" / "metrics.json").read_text())
    found = {claim["id"]: [claim["measured"], claim["low"], claim["high"]] for claim in metrics["claims"]}
    none, few = ([round(100 * share) for share in found[name]] for name in ("duplicates-paper", "off-support-paper"))
    assert (none, few) == ([0, 0, 28], [4, 0, 10])
    assert "removes none of the 10 images with two of a kind (95 % interval: 0 to 28 %), and 4 % (0 to 10 %)" in (
        " ".join(PAGE.split())
    )


def test_links_of_the_page_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


def test_the_page_is_read_in_five_minutes():
    """At 240 words a minute, code and the table of schedulers aside."""
    prose = re.sub(r"```.*?```|<!-- schedulers.*end of schedulers -->", "", PAGE, flags=re.S)
    assert len(prose.split()) <= 1200


def test_every_command_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pipe = tiny.ddpm()
    pipe.save_pretrained("my-model")
    size = pipe.unet.config.sample_size
    rng = np.random.default_rng(0)
    for folder, count in (("my-images/cats", 10), ("my-images/dogs", 10), ("good-images", 20)):
        (tmp_path / folder).mkdir(parents=True)
        for k in range(count):
            pixels = rng.integers(0, 256, (size, size, pipe.unet.config.in_channels), dtype=np.uint8)
            Image.fromarray(pixels.squeeze()).save(tmp_path / folder / f"{k:02d}.png")
    commands = [line for block in COMMANDS for line in block.strip().splitlines()]
    assert len(commands) == 5
    for line in commands:
        program, *args = shlex.split(line)
        assert program == "intermode"
        assert main(args) == 0, capsys.readouterr().err
    kept = Counter(path.parent.name for path in (tmp_path / "best-of-mine" / "kept").rglob("*.png"))
    assert kept == {"cats": 9, "dogs": 9}
    assert (tmp_path / "guaranteed" / "sheet.png").exists()


def test_the_table_of_schedulers_is_what_the_code_does():
    assert runpy.run_path(str(ROOT / "benchmarks" / "schedulers_table.py"))["filled"](PAGE) == PAGE
