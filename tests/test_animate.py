"""Films: masses are those of the exact law, frames are shown as long as they say, and a page needs no other file."""

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_pipelines import ddpm

from intermode import cli
from intermode.animating import animate, line
from intermode.animating.film import Shot, page_of, write_film
from intermode.animating.images import Pair, drawn_pair, shots
from intermode.animating.laws import LATE, PASSES, Film, film
from intermode.denoisers import MixtureDenoiser, NetworkDenoiser
from intermode.errors import InputError
from intermode.exact import off_support
from intermode.files import load_tensors, save_tensors
from intermode.models import load
from intermode.progress import Silent
from intermode.restart import Restart
from intermode.samplers import DDIM, Ancestral
from intermode.schedules import CLEAN, linear
from intermode.targets.gaussian import GaussianMixture


@pytest.fixture(scope="module")
def target():
    return GaussianMixture([-1.0, 1.0], 0.1)


@pytest.fixture(scope="module")
def learned(target):
    """A true score of modes that are wider than the data's: it leaves mass between them."""
    return MixtureDenoiser(GaussianMixture([-1.0, 1.0], 0.17), linear(30, 0.001, 0.5))


@pytest.fixture(scope="module")
def seen(learned, target):
    return film(learned, target, Ancestral(), progress=Silent())


def test_the_masses_are_those_of_the_exact_law(seen, learned, target):
    true = MixtureDenoiser(target, learned.schedule)
    for column, denoiser in enumerate((learned, true)):
        finished = seen.decided[seen.finished, column]
        assert finished == pytest.approx(off_support(denoiser, target).value, rel=0.02)
    restarted = off_support(learned, target, Restart(passes=PASSES))
    assert seen.decided[-1, 0] == pytest.approx(restarted.value, rel=0.02)


def test_under_the_true_score_nothing_is_decided_on_the_way(seen):
    until = seen.decided[: seen.finished + 1, 1]
    np.testing.assert_allclose(until, until[-1], rtol=1e-3)
    grown = seen.decided[: seen.finished + 1, 0]
    assert (np.diff(grown)[-8:] > 0).all()  # modes that are too wide only add to it
    assert grown[-1] > 10 * grown[0]


def test_densities_are_densities_and_the_last_steps_are_all_there(seen, target):
    width = seen.x[1] - seen.x[0]
    np.testing.assert_allclose(seen.density.sum(-1)[1:] * width, 1, atol=0.02)  # the first reaches beyond the axis
    assert seen.level[seen.restart == 0].tolist()[-LATE - 2 :] == [*range(LATE, -1, -1), CLEAN]
    assert seen.level[seen.restart == 1].tolist() == [3, 2, 1, 0, CLEAN]
    assert seen.when.tolist() == [*range(20, -1, -1), CLEAN, *[CLEAN] * PASSES]
    off = target.label(seen.x).hallucinated
    for k, at in zip(np.flatnonzero(seen.level == CLEAN), range(seen.finished, len(seen.when)), strict=True):
        assert seen.density[k, 0][off].sum() * width == pytest.approx(seen.decided[at, 0], rel=0.1)


def test_the_two_samples_are_a_hallucinated_and_a_good_one(seen, target):
    assert seen.x0_hat.shape == (len(seen.timesteps), 2)
    assert seen.timesteps[-1] == 0
    assert target.label(seen.x0_hat[-1]).rule.tolist() == ["between", "in-support"]


def test_a_film_is_kept_in_a_file(seen, tmp_path):
    save_tensors(tmp_path / "film.safetensors", seen.tensors)
    again = Film.of(load_tensors(tmp_path / "film.safetensors")[0])
    for name, tensor in seen.tensors.items():
        assert torch.equal(again.tensors[name], tensor)


def test_frames_slow_down_in_the_last_steps_and_say_what_is_there(seen, target):
    early, end = 3, int(np.flatnonzero(seen.level == CLEAN)[0])
    some = [0, early, end - 5, end - 1, end, end + 1, len(seen.level) - 1]
    seen = replace(seen, level=seen.level[some], restart=seen.restart[some], density=seen.density[some])
    found = line.shots(seen, target)
    assert len(found) == len(some)
    assert len({shot.picture.size for shot in found}) == 1
    seconds = np.array([shot.seconds for shot in found])
    late = (seen.level <= LATE) & (seen.level >= 0)
    assert seconds[late].min() > 3 * seconds[seen.level > LATE].max()
    assert seconds[seen.level == CLEAN].min() > seconds[late].max()
    end = int(np.flatnonzero(seen.level == CLEAN)[0])
    assert found[end].words.startswith(f"finished samples: off the support are {seen.decided[seen.finished, 0]:.2g}")
    assert found[-1].words.startswith(f"after {PASSES} restarts: off the support are {seen.decided[-1, 0]:.2g}")
    assert all(np.asarray(shot.picture).std() > 10 for shot in found)
    assert found[0].picture.tobytes() != found[end].picture.tobytes()


@pytest.fixture
def three():
    """Frames that are red, green and blue."""
    colours = ("red", "green", "blue")
    return [Shot(Image.new("RGB", (8, 6), colour), 0.1 * (k + 1), f"<{colour}>") for k, colour in enumerate(colours)]


def test_a_gif_shows_each_frame_as_long_as_it_says(three, tmp_path):
    write_film(tmp_path / "film.gif", "colours", three)
    with Image.open(tmp_path / "film.gif") as found:
        assert found.n_frames == 3
        for k in range(3):
            found.seek(k)
            assert found.info["duration"] == 100 * (k + 1)
            assert found.convert("RGB").getpixel((3, 3)) == three[k].picture.getpixel((0, 0))


def test_a_page_holds_its_frames_and_asks_for_nothing_else(three):
    page = page_of("a <b> film", three)
    assert "a &lt;b&gt; film" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "http" not in page
    frames = json.loads(re.search(r'id="frames">(.*?)</script>', page, re.S)[1])
    assert [frame["ms"] for frame in frames] == [100, 200, 300]
    assert [frame["words"] for frame in frames] == ["<red>", "<green>", "<blue>"]
    for frame, shot in zip(frames, three, strict=True):
        picture = Image.open(io.BytesIO(base64.b64decode(frame["picture"]))).convert("RGB")
        assert picture.tobytes() == shot.picture.tobytes()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ddpm(num_train_timesteps=1000).save_pretrained("model")
    return tmp_path


def test_images_of_a_model_are_played_by_the_command(folder, capsys):
    assert cli.main(["animate", "model", "-n", "4", "--steps", "30", "--out", "film.gif"]) == 0
    assert capsys.readouterr().out.startswith("film: film.gif (")
    with Image.open("film.gif") as found:
        assert 25 <= found.n_frames <= 30  # frames that are alike are one


def test_the_highest_and_the_middle_hal_are_shown_and_end_as_they_were_drawn(folder):
    denoiser = load("model")
    settings = {"target": None, "sampler": Ancestral(steps=30), "condition": {}, "seed": 3, "progress": Silent()}
    pair = drawn_pair(denoiser, 5, **settings)
    assert pair.words[0].startswith("highest Hal of 5: ")
    assert pair.x0_hat.shape == (30, 2, 1, 8, 8)
    assert pair.timesteps.tolist() == list(denoiser.schedule.respaced(30))
    short = replace(pair, timesteps=pair.timesteps[-3:], x0_hat=pair.x0_hat[-3:])
    found = shots(short)
    assert len(found) == 3
    assert found[-1].seconds > 10 * found[0].seconds


def test_of_labelled_images_a_duplicate_stands_beside_a_good_one_of_several_shapes():
    from intermode.animating.images import _chosen
    from intermode.targets.shapes import Shapes

    target = Shapes()
    x = target.sample(40, 0)
    several = [k for k in range(40) if target.label(x[k : k + 1]).counts_by_kind.sum() > 1]
    x[several[0]] = torch.maximum(x[several[0]], torch.roll(x[several[0]], 12, 1))
    labels = target.label(x)
    rows, words = _chosen(x, np.zeros(40), target)
    assert labels.hallucinated[rows].tolist() == [True, False]
    assert labels.counts_by_kind[rows[1]].sum() > 1
    assert words[0].startswith("off the support (")


def test_what_cannot_be_shown_is_one_line_and_writes_nothing(folder, capsys, network):
    before = sorted(folder.rglob("*"))
    for args, words in (
        (["gaussian-1d", "--out", "film.mp4"], "out: film.mp4 must be a file that ends in .gif or .html"),
        (["grid", "--out", "film.gif"], "samples are of shape (2,)"),
        (["model", "--out", "film.gif", "--target", "line"], "target: is one of samples of shape (1,)"),
        (["model", "--out", "film.gif", "-n", "1"], "n: 1 must be a whole number, at least 2"),
        (["gaussian-1d", "--out", "film.gif", "--sampler", "ddim"], "every step but the last must add noise"),
    ):
        assert cli.main(["animate", *args]) == 2
        said = capsys.readouterr()
        assert words in said.err
        assert said.out == ""
    assert sorted(folder.rglob("*")) == before
    own = NetworkDenoiser(network(), linear(20, 0.01, 0.3))
    with pytest.raises(InputError, match="target: give the mixture"):
        animate(own, "film.gif")
    with pytest.raises(InputError, match="every step but the last"):
        film(own, GaussianMixture([0.0, 1.0], 0.1), DDIM(), progress=Silent())


def test_a_way_of_no_length_is_drawn():
    pair = Pair(("a", "b"), np.array([1, 0]), np.zeros((2, 2, 1, 4, 4)))
    assert len(shots(pair)) == 2
