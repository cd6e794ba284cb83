"""The explorer: its thresholds are those that filtering finds, its counts Python's, and a page needs no other file."""

import base64
import io
import json
import math
import re
import shlex
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import intermode
from intermode import cli
from intermode.data.pixels import unit_range
from intermode.errors import InputError
from intermode.evaluation import precision, share
from intermode.explorer import explore, explore_run
from intermode.explorer.cuts import Axis, cuts_of
from intermode.explorer.page import chosen, page_of
from intermode.explorer.pictures import Neighbours
from intermode.explorer.subject import open_subject
from intermode.files import load_tensors, read_json, save_tensors, write_json
from intermode.filtering import filter
from intermode.jobs import read_done
from intermode.progress import Silent
from intermode.thresholds import Threshold

SCORES = st.lists(
    st.one_of(st.floats(-5, 5), st.sampled_from([0.0, 1.0, math.nan, math.inf, -math.inf])), min_size=1, max_size=60
)


def unpack(packed):
    return np.frombuffer(base64.b64decode(packed["bytes"]), f"<{packed['kind']}")


def decoded(sprite):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(sprite))).convert("RGB"))


def found_in(path):
    """What a page was made of."""
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="found">(.*?)</script>', text, re.S)[1])


@pytest.fixture
def here(tmp_path, monkeypatch):
    folder = tmp_path / "a folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def pictures(here):
    """40 grey images of 8×8 in two folders, as pixels by name, with a score for each."""
    rng = np.random.default_rng(0)
    pixels = {}
    for k in range(40):
        name = f"{'even' if k % 2 == 0 else 'odd'}/{k:02d}.png"
        (here / "made" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels[name] = rng.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels[name]).save(here / "made" / name)
    names = sorted(pixels)
    scores = dict(zip(names, np.random.default_rng(1).exponential(size=40), strict=True))
    (here / "scores.csv").write_text("id,hal\n" + "".join(f"{n},{float(s)!r}\n" for n, s in scores.items()))
    return {name: pixels[name] for name in names}, np.array(list(scores.values()))


@given(SCORES)
def test_each_threshold_is_found_by_its_share_and_keeps_what_it_says(scores):
    scores = np.array(scores)
    cuts = cuts_of(scores)
    known = scores[~np.isnan(scores)]
    assert set(cuts.value) == set(known[np.isfinite(known)])  # few samples: each score is a threshold
    assert (np.diff(cuts.value) > 0).all()
    assert cuts.samples == len(scores)
    assert cuts.unscored == np.isnan(scores).sum()
    assert cuts.infinite == np.isinf(scores).sum()
    for value, kept, removed, word in zip(cuts.value, cuts.kept, cuts.removed, cuts.share, strict=True):
        mask = np.asarray(Threshold(value).keep(scores))
        assert (kept, removed) == (mask.sum(), (~mask[~np.isnan(scores)]).sum())
        assert Threshold.quantile(known, float(word)).value == value
        digits = len(word) - 2
        shorter = [k / 10 ** (digits - 1) for k in range(1, 10 ** (digits - 1))]
        fitting = [q for q in shorter if np.sort(known)[max(math.ceil(q * len(known) - 1e-9), 1) - 1] == value]
        assert not fitting


def test_every_share_in_thousandths_and_each_of_the_highest_scores_is_there():
    scores = np.random.default_rng(0).normal(size=20_011)
    cuts = cuts_of(scores)
    assert len(cuts.value) <= 2000
    for thousandth in range(1, 1000):
        assert Threshold.quantile(scores, thousandth / 1000).value in cuts.value
    assert set(np.sort(scores)[-1000:]) <= set(cuts.value)
    assert cuts.share[np.searchsorted(cuts.value, Threshold.quantile(scores, 0.9).value)] == "0.9"


@given(SCORES, st.integers(0, 2**32))
def test_what_a_threshold_does_to_labelled_samples(scores, seed):
    scores = np.array(scores)
    truth = np.random.default_rng(seed).choice([0.0, 1.0, np.nan], size=len(scores), p=[0.5, 0.4, 0.1])
    known = cuts_of(scores, truth).labelled
    scored = ~np.isnan(scores)
    bad, good = scored & (truth == 1), scored & (truth == 0)
    if known is None:
        assert not bad.any() or not good.any() or not np.isfinite(scores).any()
        return
    assert (known.hallucinated, known.others) == (bad.sum(), good.sum())
    rate = share(int(bad.sum()), int(bad.sum() + good.sum()))
    for k, value in enumerate(cuts_of(scores).value):
        kept = np.asarray(Threshold(value).keep(scores))
        removed, lost = int((bad & ~kept).sum()), int((good & ~kept).sum())
        assert (known.removed[k], known.lost[k]) == (removed, lost)
        shares = share(removed, int(bad.sum())), share(int(good.sum()) - lost, int(good.sum()))
        assert (known.removed_share[k], known.kept_share[k]) == shares
        assert known.precision[k] == (precision(*shares, rate) if removed + lost else None)


@given(SCORES)
def test_places_on_an_axis_rise_with_the_score_and_all_finite_ones_are_in_the_histogram(scores):
    scores = np.array(scores)
    finite = np.sort(scores[np.isfinite(scores)])
    if not len(finite):
        return
    axis = Axis.of(scores)
    assert axis.low < axis.high
    assert (np.diff(axis.at(finite)) >= 0).all()
    assert axis.histogram(scores).sum() == len(finite)


def test_a_diverged_sample_does_not_squeeze_all_others_into_one_bin():
    for scores in (np.random.default_rng(0).lognormal(size=1000), np.random.default_rng(0).normal(size=1000)):
        scores[17] = 1e30
        assert (Axis.of(scores).histogram(scores) > 0).sum() > 10


def test_where_not_all_are_shown_the_worst_are():
    scores = np.random.default_rng(0).normal(size=1000)
    scores[:5] = np.nan
    rows = chosen(scores, 1000, 100)
    assert len(rows) == 100
    assert set(np.argsort(scores[5:])[-50:] + 5) <= set(rows)
    ranks = np.searchsorted(np.sort(scores[5:]), np.sort(scores[rows])[:40])
    assert np.diff(ranks).max() < 40  # the rest are spread over the ranks
    assert chosen(scores, 1000, 1000).tolist() == list(range(1000))
    assert chosen(None, 1000, 4).tolist() == [0, 333, 666, 999]


class Page(HTMLParser):
    """What a browser would fetch."""

    def __init__(self, text):
        super().__init__()
        self.fetched = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.fetched += [(tag, v) for k, v in attrs if k in ("src", "href", "srcset", "data", "action", "poster")]


def test_a_folder_of_images_is_one_page_that_needs_nothing_but_itself(pictures, here):
    pixels, scores = pictures
    path = explore("made", scores="scores.csv")
    assert path.resolve() == here / "made-explorer.html"
    text = path.read_text(encoding="utf-8")
    assert Page(text).fetched == []
    assert set(re.findall(r"https?://[^\s)\"]*", text)) == {"https://github.com/leeoniya/uPlot"}  # in its licence
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", text)
    found = found_in(path)
    assert found["ids"] == list(pixels)
    for sprite, image in zip(found["pictures"], pixels.values(), strict=True):
        np.testing.assert_array_equal(decoded(sprite), np.repeat(image[..., None], 3, -1))
    (score,) = found["scores"]
    assert (score["name"], score["score"]) == ("hal", "hal")
    np.testing.assert_array_equal(unpack(score["values"]), scores)
    np.testing.assert_array_equal(unpack(score["order"]), np.argsort(scores))
    np.testing.assert_allclose(unpack(score["lower"]), np.argsort(np.argsort(scores)) / 40, atol=1e-6)
    whole = score["tables"][0]
    np.testing.assert_array_equal(unpack(whole["value"]), np.sort(scores))
    np.testing.assert_array_equal(unpack(whole["shown"]), unpack(whole["kept"]))
    assert sum(whole["others"]) == 40
    assert "labelled" not in whole


def test_what_is_on_the_screen_is_what_the_command_does(pictures, here, capsys):
    """Of all together, and of each class by itself."""
    names, scores = np.array(list(pictures[0])), pictures[1]
    found = found_in(explore("made", scores="scores.csv"))
    assert found["classes"] == {"by": "label", "names": ["even", "odd"], "of": found["classes"]["of"]}
    (score,) = found["scores"]
    classes = np.array([name.split("/")[0] for name in names])
    for table, at in ((0, 35), (0, 0), (0, 39), (1, 12), (2, 17)):
        t, command = score["tables"][table], score["command"]
        word = t["share"].split()[at]
        words = command["before"] + word + (command["within"] if table else "") + command["after"]
        assert cli.main(shlex.split(words)[1:]) == 0
        capsys.readouterr()
        record = read_json(here / "made-filtered" / "threshold.json")
        record = record[table - 1] if table else record
        assert record["value"] == unpack(t["value"])[at]
        assert record["rule"] == f"quantile: kept {word}"
        assert (record["score"], record["kept"]) == (score["score"], unpack(t["kept"])[at])
        mask = scores <= record["value"]
        mask = mask & (classes == record["label"]) if table else mask
        kept = {p.relative_to(here / "made-filtered/kept").as_posix() for p in here.glob("made-filtered/kept/*/*.png")}
        kept = {name for name in kept if not table or name.startswith(record["label"])}
        assert kept == set(names[mask])
        (here / "made-filtered").rename(here / f"filtered-{table}-{at}")


def test_several_scores_labels_and_classes_each_have_their_table(here):
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(300, 2)))
    scores = {"hal": rng.exponential(size=300), "lid": rng.normal(size=300)}
    classes = torch.arange(300) % 3
    tensors = {"samples": x, "condition.class_labels": classes}
    save_tensors(here / "x.safetensors", tensors | {f"score.{k}": torch.tensor(v) for k, v in scores.items()})
    bad = rng.random(300) < 0.1
    (here / "labels.csv").write_text("id,bad\n" + "".join(f"{k},{int(b)}\n" for k, b in enumerate(bad) if k >= 20))
    found = found_in(intermode.explore(here / "x.safetensors", labels="labels.csv"))
    assert {s["name"] for s in found["scores"]} == {"hal", "lid"}
    assert found["points"]["dimensions"] == 2
    np.testing.assert_array_equal(unpack(found["points"]["values"]).reshape(-1, 2), x.numpy().astype(np.float32))
    assert found["unlabelled"] == 20
    truth = np.where(np.arange(300) < 20, np.nan, bad)
    np.testing.assert_array_equal(unpack(found["hallucinated"]), np.nan_to_num(truth, nan=2))
    for score in found["scores"]:
        assert f"--by {score['name']}" in score["command"]["before"]
        assert [t["label"] for t in score["tables"]] == [None, "0", "1", "2"]
        for t, mask in zip(score["tables"], [classes >= 0, classes == 0, classes == 1, classes == 2], strict=True):
            cuts = cuts_of(scores[score["name"]][mask.numpy()], truth[mask.numpy()])
            np.testing.assert_array_equal(unpack(t["value"]), cuts.value)
            assert t["share"].split() == cuts.share
            np.testing.assert_array_equal(unpack(t["labelled"]["lost"]), cuts.labelled.lost)
            low = [e.low for e in cuts.labelled.removed_share]
            np.testing.assert_allclose(unpack(t["labelled"]["removed_share"][1]), low, rtol=1e-6)
            assert sum(t["others"]) + sum(t["bad"]) == mask.sum()


def test_the_nearest_training_images_are_those(pictures, here):
    pixels, _ = pictures
    training = np.random.default_rng(5).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    training[7] = pixels["even/04.png"]
    np.save(here / "training.npy", training)
    found = found_in(explore("made", scores="scores.csv", data="training.npy"))
    nearest = found["nearest"]
    assert (nearest["each"], nearest["searched"]) == (3, 30)
    which = np.array([int(nearest["ids"][k]) for k in unpack(nearest["which"])]).reshape(40, 3)
    far = unpack(nearest["distance"]).reshape(40, 3)
    for k, image in enumerate(pixels.values()):
        apart = np.sqrt(((unit_range(image) - unit_range(training)) ** 2).mean((1, 2)))
        np.testing.assert_array_equal(which[k], np.argsort(apart)[:3])
        np.testing.assert_allclose(far[k], np.sort(apart)[:3], atol=1e-4)
    k = found["ids"].index("even/04.png")
    assert which[k, 0] == 7
    assert far[k, 0] < 1e-6
    for id, sprite in zip(nearest["ids"], nearest["pictures"], strict=True):
        np.testing.assert_array_equal(decoded(sprite)[..., 0], training[int(id)])


def test_training_images_may_be_grey_where_samples_are_in_colour(here):
    colours = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    np.save(here / "colours.npy", colours)
    np.save(here / "grey.npy", colours[..., 0])
    pictures = [unit_range(each) for each in colours]
    assert Neighbours(here / "colours.npy", 1).of(pictures)[1][:, 0].tolist() == list(range(6))
    same = [np.repeat(unit_range(each)[..., :1], 3, -1) for each in colours]
    far, which = Neighbours(here / "grey.npy", 1).of(same)
    assert which[:, 0].tolist() == list(range(6))
    np.testing.assert_allclose(far, 0, atol=1e-6)


@pytest.fixture
def refused(here, capsys):
    """Runs the command, which must be refused: one line, and nothing written; returns the line."""

    def run(*args):
        before = sorted(here.rglob("*"))
        assert cli.main(["explore", *map(str, args)]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert sorted(here.rglob("*")) == before
        return said.err

    return run


def test_what_cannot_be_used_is_one_line(pictures, here, refused):
    np.save("short.npy", np.arange(39.0))
    assert refused("made", "--scores", "short.npy") == "error: scores: 39 for 40 samples; need one for each\n"
    assert refused("made", "--labels", "short.npy").startswith("error: labels: short.npy must hold 40 values")
    assert "not found" in refused("nowhere")
    assert "must be a file that ends in .html" in refused("made", "--out", "page.txt")
    assert "which is never changed" in refused("made", "--out", "made/page.html")
    np.save("large.npy", np.zeros((3, 9, 9), np.uint8))
    assert "images of 9×9; the samples are 8×8" in refused("made", "--data", "large.npy")
    np.save("points.npy", np.zeros((3, 2)))
    assert refused("points.npy", "--data", "made").startswith("error: data: is for images; points.npy holds none")
    assert "points.npy holds no images" in refused("made", "--data", "points.npy")
    assert refused("made", "--show", "1") == "error: show: 1 must be a whole number, at least 2\n"
    (here / "run" / "jobs").mkdir(parents=True)
    assert "run holds no samples" in refused("run")


def test_without_scores_the_page_shows_the_samples(pictures, here, capsys):
    np.save("unknown.npy", np.full(40, np.nan))
    for args, words in ((["made"], "the data holds none"), (["made", "--scores", "unknown.npy"], "holds only NaN")):
        assert cli.main(["explore", *args]) == 0
        said = capsys.readouterr()
        assert said.out == "page: made-explorer.html; open it in a browser\n"
        assert said.err.count("\n") == 1
        assert said.err.startswith("warning: scores: ")
        assert words in said.err
        found = found_in(here / "made-explorer.html")
        assert found["scores"] == []
        assert len(found["missing"]) == 1
        assert len(found["pictures"]) == 40


def test_samples_without_a_score_or_that_cannot_be_read_are_told(pictures, here):
    _, scores = pictures
    broken = here / "made/even/02.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    holed = scores.copy()
    holed[[1, 5]], holed[7] = np.nan, np.inf
    np.save("holed.npy", holed)
    found = found_in(explore("made", scores="holed.npy"))
    whole = found["scores"][0]["tables"][0]
    assert (whole["samples"], whole["unscored"], whole["infinite"]) == (40, 2, 1)
    assert unpack(whole["kept"])[-1] == 37
    assert not {1, 5} & set(unpack(found["scores"][0]["order"]))
    assert unpack(found["scores"][0]["order"])[-1] == 7
    assert found["unread"] == 1
    assert found["pictures"][found["ids"].index("even/02.png")] is None


def test_a_page_that_would_be_too_large_says_how_to_thin_out_after_a_few_images(pictures, here, monkeypatch):
    subject = open_subject(here / "made", scores=here / "scores.csv")
    read = []
    usual = subject.source.pictures

    def counted(rows):
        read.extend(rows)
        return usual(rows)

    subject.source.pictures = counted
    monkeypatch.setattr("intermode.explorer.page.LOOKED_AT", 8)
    with pytest.raises(
        InputError, match=r"^show: 40 samples make a page of about .* thin out with --show (\d+):"
    ) as told:
        page_of(subject, "", most_bytes=3000, progress=Silent())
    assert len(read) == 8
    thin = int(re.search(r"--show (\d+)", str(told.value))[1])
    assert 2 <= thin < 40
    found = page_of(subject, "", show=thin, most_bytes=3000, progress=Silent())
    assert found["shown"] == thin
    assert unpack(found["scores"][0]["tables"][0]["kept"]).tolist() == list(range(1, 41))  # all are counted
    assert unpack(found["scores"][0]["tables"][0]["shown"])[-1] == thin


def test_large_images_are_made_smaller(here):
    image = np.zeros((400, 200, 3), np.uint8)
    image[:, :, 0] = 200
    np.save("large.npy", np.stack([image] * 2))
    with pytest.warns(UserWarning, match="holds none"):
        sprite = decoded(found_in(explore("large.npy"))["pictures"][0])
    assert sprite.shape == (128, 64, 3)
    np.testing.assert_allclose(sprite.mean((0, 1)), [200, 0, 0], atol=4)


def test_an_id_cannot_end_the_script_that_holds_it(here):
    name = "<script>alert('x')<!--.png"
    (here / "made").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(here / "made" / name)
    with pytest.warns(UserWarning, match="holds none"):
        path = explore("made")
    assert found_in(path)["ids"] == [name]
    assert "<script>alert" not in path.read_text(encoding="utf-8")


def finished(folder, name, tensors, facts=None, pool=None):
    """A finished job in a run."""
    place = folder / "jobs" / name
    save_tensors(place / "tensors.safetensors", tensors)
    write_json(place / "job.json", {"inputs": {} if pool is None else {"pool": pool}})
    write_json(place / "result.json", {"facts": facts or {}, "made": {}})


@pytest.fixture
def run(here):
    """A run with a pool of 500 numbers, its labels, and two trajectories."""
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(500, 1)))
    score = torch.tensor(rng.exponential(size=500))
    finished(here / "run", "pool-0a", {"samples": x, "score.hal": score})
    bad = x[:, 0].abs() > 1.5
    told = {"hallucinated": bad, "rule": bad.long()}
    finished(here / "run", "labels-0b", told, {"rules": ["in-support", "beyond"]}, "pool-0a")
    moved = {"timesteps": torch.tensor([20, 10, 0]), "x0_hat": torch.arange(6.0).reshape(3, 2, 1)}
    finished(here / "run", "trajectories-0c", moved, {"rows": [490, 3]}, "pool-0a")
    return here / "run", x, score, bad


def test_a_run_shows_its_pool_with_labels_and_trajectories(run):
    folder, x, score, bad = run
    path = explore(folder, show=50)
    assert path == folder / "explorer.html"
    found = found_in(path)
    assert found["samples"] == 500
    rows = np.array([int(each) for each in found["ids"]])
    assert {3, 490} <= set(rows)
    np.testing.assert_allclose(unpack(found["points"]["values"]), x[rows, 0], rtol=1e-6)
    np.testing.assert_array_equal(unpack(found["hallucinated"]), bad[rows].numpy())
    assert [found["rules"]["names"][k] for k in unpack(found["rules"]["of"])] == [
        "beyond" if each else "in-support" for each in bad[rows]
    ]
    assert found["trajectories"]["timesteps"] == [20, 10, 0]
    moved = {int(rows[int(k)]): unpack(v).tolist() for k, v in found["trajectories"]["of"].items()}
    assert moved == {490: [0, 2, 4], 3: [1, 3, 5]}
    whole = found["scores"][0]["tables"][0]
    known = cuts_of(score.numpy(), bad.double().numpy()).labelled
    np.testing.assert_array_equal(unpack(whole["labelled"]["removed"]), known.removed)


def test_the_command_of_a_run_filters_its_pool(run, here, capsys):
    folder, x, score, _ = run
    found = found_in(explore(folder))
    command, whole = found["scores"][0]["command"], found["scores"][0]["tables"][0]
    words = shlex.split(command["before"] + whole["share"].split()[400] + command["after"])
    assert cli.main(words[1:]) == 0
    kept = load_tensors(here / "pool-0a-filtered" / "kept.safetensors")[0]
    assert torch.equal(kept["samples"], x[score <= unpack(whole["value"])[400]])


def done_in(folder):
    return [done for place in sorted((folder / "jobs").iterdir()) if (done := read_done(place)) is not None]


def test_a_run_of_several_pools_has_a_page_for_each_that_is_labelled(run, refused):
    folder, x, score, bad = run
    assert [page.name for page in explore_run(folder, done_in(folder))] == ["explorer.html"]
    (folder / "explorer.html").unlink()
    finished(folder, "other-pool-1a", {"samples": x + 1, "score.hal": score})
    assert [page.name for page in explore_run(folder, done_in(folder))] == ["explorer.html"]
    (folder / "explorer.html").unlink()
    finished(folder, "labels-1b", {"hallucinated": ~bad}, pool="other-pool-1a")
    pages = explore_run(folder, done_in(folder))
    assert [page.name for page in pages] == ["explorer-other-pool.html", "explorer-pool.html"]
    assert found_in(pages[0])["title"] == "run: other-pool"
    np.testing.assert_array_equal(unpack(found_in(pages[0])["hallucinated"]), (~bad).numpy())
    assert "run/jobs/other-pool-1a, " in refused("run")
    assert found_in(explore(folder / "jobs" / "pool-0a", out="one.html"))["samples"] == 500


def test_trajectories_of_images_are_frames(here):
    x = torch.rand(4, 1, 8, 8) * 2 - 1
    finished(here / "run", "pool-0a", {"samples": x, "score.hal": torch.arange(4.0)})
    moved = {
        "timesteps": torch.arange(39, -1, -1),
        "x0_hat": torch.linspace(-1, 1, 40)[:, None, None, None].expand(40, 1, 8, 8),
    }
    finished(here / "run", "film-0c", moved, {"rows": [2]}, "pool-0a")
    found = found_in(explore("run"))
    times = found["trajectories"]["timesteps"]
    assert (times[0], times[-1], len(times)) == (39, 0, 24)
    frames = found["trajectories"]["of"]["2"]
    for t, frame in zip(times, frames, strict=True):
        np.testing.assert_allclose(decoded(frame), 255 * (39 - t) / 39, atol=0.51)


def test_filter_and_the_table_agree_on_samples_in_memory():
    """The same numbers as Python's, whatever holds them."""
    scores = np.random.default_rng(3).gamma(2, size=999)
    cuts = cuts_of(scores)
    for k in (0, 500, 998):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a share that keeps all
            done = filter(np.zeros((999, 1)), scores, kept=float(cuts.share[k]))
        assert (done.threshold.value, int(done.mask.sum())) == (cuts.value[k], cuts.kept[k])


def test_what_is_missing_is_said_on_the_page(pictures, here):
    subject = replace(open_subject(here / "made"), missing=("this is missing",))
    assert page_of(subject, "", progress=Silent())["missing"] == ["this is missing"]


def test_samples_in_memory_are_looked_at_and_the_call_does_what_is_on_the_screen(here):
    """Samples as they were drawn; and an array of bytes with scores, labels and classes of its own."""
    rng = np.random.default_rng(0)
    x, hal, lid = torch.rand(60, 1, 8, 8) * 2 - 1, rng.exponential(size=60), rng.normal(size=60)
    classes = torch.arange(60) % 3
    samples = intermode.Samples(
        x, {"hal": hal, "lid": lid}, np.zeros(60, bool), 1.0, condition={"class_labels": classes}
    )
    pixels = rng.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    scores, labels, within = lid.copy(), np.where(rng.random(60) < 0.3, 1.0, 0.0), np.array(["a", "b"] * 30)
    scores[:2], labels[:5] = np.nan, np.nan
    cases = [
        (explore(samples), {"samples": samples}, {"hal": hal, "lid": lid}, classes.numpy().astype(str), 60),
        (
            explore(pixels, scores=scores, labels=labels, within=within, out="other.html"),
            {"samples": pixels, "scores": scores, "within": within},
            {"score": scores},
            within,
            58,
        ),
    ]
    assert cases[0][0].name == "samples-explorer.html"
    for path, names, expected, words, scored in cases:
        found = found_in(path)
        assert found["ids"] == [str(k) for k in range(60)]
        assert [score["name"] for score in found["scores"]] == list(expected)
        for score in found["scores"]:
            for table, at in ((0, 40), (1, 5)):
                t, command = score["tables"][table], score["command"]
                share_kept = t["share"].split()[at]
                line = command["before"] + share_kept + (command["within"] if table else "") + command["after"]
                done = eval(line, {"intermode": intermode} | names)
                mask = done.mask if table == 0 else done.mask & (words == t["label"])
                assert mask.sum() == unpack(t["kept"])[at]
                assert done.cuts[table - 1 if table else 0].threshold.value == unpack(t["value"])[at]
            assert score["tables"][0]["samples"] - score["tables"][0]["unscored"] == scored
    np.testing.assert_array_equal(decoded(found["pictures"][7]), pixels[7])
    assert found["unlabelled"] == 5
    np.testing.assert_array_equal(unpack(found["hallucinated"]), np.nan_to_num(labels, nan=2))


def test_the_score_of_the_most_samples_comes_first(here):
    few, most = np.full(20, np.nan), np.arange(20.0)
    few[:5] = 1.0
    none = np.full(20, np.nan)
    x = torch.randn(20, 1)
    tensors = {"few": few, "most": most, "none": none}
    save_tensors(here / "x.safetensors", {"samples": x} | {f"score.{k}": torch.tensor(v) for k, v in tensors.items()})
    for path in (explore("x.safetensors"), explore(x, scores=tensors)):
        assert [score["name"] for score in found_in(path)["scores"]] == ["most", "few"]


def test_numbers_in_memory_are_points(here):
    x = torch.randn(30, 2)
    with pytest.warns(UserWarning, match="there are none; give some"):
        found = found_in(explore(x))
    np.testing.assert_array_equal(unpack(found["points"]["values"]).reshape(-1, 2), x.numpy())
    assert found["scores"] == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"scores": np.zeros(9)}, "scores: 9 for 10 samples"),
        ({"labels": np.zeros(9)}, r"labels: numbers of shape \(9,\); must be \(10,\)"),
        ({"labels": np.full(10, 2.0)}, "labels: must be 1 for what is hallucinated"),
        ({"within": np.zeros(9)}, "within: given must hold 10 values"),
        ({"column": "image"}, "column: is for tables in files"),
        ({"data": "nowhere.npy"}, "data: is for images; samples holds none"),
    ],
)
def test_what_does_not_fit_samples_in_memory_is_one_line(here, given, words):
    with pytest.raises(InputError, match=words):
        explore(np.zeros((10, 2)), **given)
    assert list(here.iterdir()) == []


def test_scores_of_files_are_files(pictures, here):
    with pytest.raises(InputError, match="scores: of samples in files are a file too"):
        explore("made", scores=pictures[1])
    assert not list(here.glob("*.html"))


def test_the_page_of_the_documentation_runs(here, capsys):
    page = (Path(__file__).parents[1] / "docs" / "explore.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    exec(compile(snippet, "docs/explore.md", "exec"), {})
    assert capsys.readouterr().out == "samples-explorer.html\n"
    assert found_in(here / "samples-explorer.html")["samples"] == 2000
