"""To the best part of data, in memory or in files: the input stays, what comes out is what was asked."""

import csv
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from intermode import cli
from intermode.denoisers import NetworkDenoiser
from intermode.errors import InputError
from intermode.filtering import filter
from intermode.models import save_model
from intermode.networks import build
from intermode.schedules import linear
from intermode.thresholds import Threshold

SETTINGS = ["--detectors", "hal-renoise", "--window", "0", "9", "--count", "2"]
OTHER_SETTINGS = [*SETTINGS[:-1], "3"]


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def listed(path):
    """Ids and scores of a list that filter wrote, NaN where there is none."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "hal-renoise"]
    return [row[0] for row in rows], np.array([float(row[1] or "nan") for row in rows])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A model of 8×8 colour images, 30 images of which one is truncated, with metadata, and their scores."""
    place = tmp_path_factory.mktemp("prepared")
    network = build({"kind": "unet", "sample_size": 8, "in_channels": 3, "patch": 4, "channels": [32]}, 1)
    save_model(place / "model", NetworkDenoiser(network, linear(20)), {"seed": 1})
    rng = np.random.default_rng(0)
    for k in range(30):
        path = place / "images" / f"class {k % 3}" / f"{k:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 1 + 8 * k, (8, 8, 3), dtype=np.uint8)).save(path)
    broken = place / "images" / "class 1" / "07.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    names = [f"class {k % 3}/{k:02d}.png" for k in range(30)]
    (place / "images" / "metadata.csv").write_text("file_name,n\n" + "".join(f"{n},{k}\n" for k, n in enumerate(names)))
    args = ["score", "model", "images", "--out", "scores.parquet", *SETTINGS]
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(place)
        assert cli.main(args) == 0
    return place


@pytest.fixture
def here(prepared, tmp_path, monkeypatch):
    shutil.copytree(prepared, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def done(here, capsys):
    """Runs a command that must succeed and change nothing that was there; returns what it printed."""

    def run(*args):
        before = tree(here)
        status = cli.main([str(arg) for arg in args])
        said = capsys.readouterr()
        assert status == 0, said.err
        after = tree(here)
        assert {name: after[name] for name in before} == before
        return said.out

    return run


@pytest.fixture
def refused(here, capsys):
    """Runs a command that must be refused: one line, and not a byte changed; returns the line."""

    def run(*args):
        before = tree(here)
        assert cli.main([str(arg) for arg in args]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert tree(here) == before
        return said.err

    return run


def scores_of(path="scores.parquet"):
    table = pq.read_table(path)
    return table.column("id").to_pylist(), table.column("hal-renoise").to_numpy()


def test_the_best_part_of_a_folder_is_one_with_its_metadata(done, here):
    ids, scores = scores_of()
    assert ids == sorted(f"class {k % 3}/{k:02d}.png" for k in range(30))
    assert [name for name, score in zip(ids, scores, strict=True) if np.isnan(score)] == ["class 1/07.png"]
    assert Path("scores.parquet.skipped.csv").read_text().startswith("id,reason\nclass 1/07.png,")
    said = done("filter", "images", "--scores", "scores.parquet", "--kept", "0.75", "--out", "out")
    assert said.startswith(
        "22 of 30 kept (73.3 %), 1 without a score: hal-renoise up to "
    )  # ceil(0.75 * 29), of those that could be read
    best = sorted(np.argsort(scores)[:22])
    original, kept, rejected = tree(here / "images"), tree(here / "out/kept"), tree(here / "out/rejected")
    assert sorted(kept) == [*sorted(ids[row] for row in best), "metadata.csv"]
    assert len(rejected) == 7 + 1
    for part in (kept, rejected):
        assert all(content == original[name] for name, content in part.items() if name != "metadata.csv")
        rows = part["metadata.csv"].decode().splitlines()[1:]
        assert sorted(row.split(",")[0] for row in rows) == sorted(part)[:-1]
        assert set(rows) <= set(original["metadata.csv"].decode().splitlines())
    names, values = listed(here / "out/kept_scores.csv")
    assert names == [ids[row] for row in best]
    assert np.array_equal(values, scores[best])
    names, values = listed(here / "out/rejected_scores.csv")
    worst = sorted(np.argsort(scores)[22:])  # NaN, which could not be read, among them
    assert names == [ids[row] for row in worst]
    assert np.array_equal(values, scores[worst], equal_nan=True)
    record = json.loads((here / "out/threshold.json").read_text())
    assert record["value"] == scores[best].max()
    assert (record["samples"], record["kept"], record["skipped"], record["score"]) == (30, 22, 1, "hal-renoise")
    with Image.open(here / "out/sheet.png") as sheet:
        assert min(sheet.size) > 300
    assert sorted(p.name for p in (here / "out").iterdir()) == sorted(
        ["kept", "rejected", "kept_scores.csv", "rejected_scores.csv", "threshold.json", "sheet.png"]
    )


def test_labels_by_name_may_be_of_some_images(done, here):
    ids, scores = scores_of()
    known = [row for row in range(0, 30, 2) if not np.isnan(scores[row])]
    bad = {ids[row]: int(scores[row] > np.nanmedian(scores)) for row in reversed(known)}
    lines = [f"{name},{label}" for name, label in bad.items()]
    Path("labels.csv").write_text("\n".join(["id,label", *lines, "class 1/07.png,1"]) + "\n")
    done("filter", "images", "--scores", "scores.parquet", "--labels", "labels.csv", "--removed", "1e-9", "--out", "a")
    done("filter", "images", "--scores", "scores.parquet", "--labels", "labels.csv", "--removed", "0.99", "--out", "b")
    largest, smallest = (pick(s for n, s in zip(ids, scores, strict=True) if bad.get(n)) for pick in (max, min))
    for folder, limit in (("a", largest), ("b", smallest)):
        assert json.loads(Path(folder, "threshold.json").read_text())["value"] == np.nextafter(limit, -np.inf)


def test_a_reference_may_be_a_file_of_scores(done, refused, here):
    _, scores = scores_of()
    args = ["filter", "images", "--scores", "scores.parquet", "--reference", "reference.parquet"]
    shutil.copy("scores.parquet", "reference.parquet")
    done(*args, "--alpha", "0.1", "--out", "out")
    # ceil(30 * 0.9) = 27th smallest of the 29 that could be read
    assert json.loads(Path("out/threshold.json").read_text())["value"] == np.sort(scores)[26]
    done("score", "model", "images", "--out", "reference.csv", *OTHER_SETTINGS)
    Path("reference.parquet").unlink()
    done("score", "model", "images", "--out", "reference.parquet", *OTHER_SETTINGS)
    said = refused(*args, "--alpha", "0.1", "--out", "b")
    assert "was scored otherwise than scores.parquet" in said
    assert "timesteps 0 4 9 there and " in said
    assert "timesteps 0 9 here" in said


def test_a_parquet_file_keeps_its_columns(done, here):
    images = [p.read_bytes() for p in sorted((here / "images").rglob("*.png"))]
    table = pa.table({"image": images, "text": [f"t{k}" for k in range(30)]})
    pq.write_table(table, "data.parquet")
    done("score", "model", "data.parquet", "--out", "own.csv", *SETTINGS)
    rows, scores = listed(here / "own.csv")
    assert rows == [str(k) for k in range(30)]
    assert np.allclose(scores, scores_of()[1], rtol=1e-5, equal_nan=True)  # the same images in the same order
    done("filter", "data.parquet", "--scores", "own.csv", "--kept", "0.5", "--out", "out")
    chosen = [int(name) for name in listed(here / "out/kept_scores.csv")[0]]
    assert pq.read_table("out/kept.parquet").equals(table.take(pa.array(chosen)))
    assert Path("out/sheet.png").exists()


def test_numbers_get_no_sheet_of_images(done, here):
    np.save("data.npy", np.arange(6.0))
    np.save("own.npy", np.arange(6.0))
    done("filter", "data.npy", "--scores", "own.npy", "--kept", "0.5", "--out", "out")
    assert not Path("out/sheet.png").exists()


def _other_model(here):
    network = build({"kind": "mlp", "dimensions": 2, "width": 8, "blocks": 1}, 1)
    save_model(here / "flat", NetworkDenoiser(network, linear(20)), {})


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("score model images --out s.parquet --strict", "class 1/07.png of images cannot be read"),
        ("score flat images --out s.parquet", "data: images holds images; the model takes samples of shape (2,)"),
        ("score model odd --out s.parquet", "odd holds images of height × width: 1 of 9×8 (x.png say)"),
        ("score model images --out images/s.parquet", "out: images/s.parquet lies in the data's folder images"),
        ("score model images --out s.parquet --chunk 0", "chunk: 0 must be at least 1"),
        ("score model images --out s.parquet --device tpu", "device: tpu is not available"),
        ("score model images --out s.parquet --column x", "column: images is no table"),
        ("score model none --out s.parquet", "data: none not found"),
        ("filter images --scores scores.parquet --kept 0.5 --out images/new", "lies in the data's folder images"),
        ("filter images --scores scores.parquet --kept 0.5 --out odd", "out: odd is not an empty folder"),
        ("filter images --kept 0.5 --out o", "scores: images holds none; give scores"),
        ("filter odd --scores scores.parquet --kept 0.5 --out o", "scores: 30 for 1 samples; need one for each"),
        ("filter same --scores scores.parquet --kept 0.5 --out o", "holds scores of other data than same (digest"),
        ("filter images --scores scores.parquet --by x --kept 0.5 --out o", "has no column 'x'; choose from hal-ren"),
        ("filter images --scores scores.parquet --labels l.csv --out o", "labels: l.csv names 1 samples that images"),
        ("filter images --scores scores.parquet --labels m.csv --out o", "labels: m.csv must hold 0 or 1 for each"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(refused, here, args, expected):
    _other_model(here)
    Path("odd").mkdir()
    Image.new("RGB", (8, 9)).save("odd/x.png")
    shutil.copytree("images", "same")
    Path("same/class 0/00.png").write_bytes(Path("same/class 0/03.png").read_bytes())
    Path("l.csv").write_text("id,label\nclass 9/x.png,1\n")
    Path("m.csv").write_text("id,label\nclass 0/00.png,2\n")
    assert expected in refused(*args.split())


# in memory


def mixed(n=300):
    """Scores of three classes that lie apart, so that one threshold for all would take a whole class."""
    rng = np.random.default_rng(0)
    classes = np.repeat([0, 1, 2], n // 3)
    return rng.random(n) + 10 * classes, classes


@pytest.mark.parametrize("form", [np.asarray, torch.as_tensor, list])
def test_what_comes_in_comes_out_in_two_parts(form):
    values = np.arange(20.0)[::-1].copy()
    found = filter(form(values), values, kept=0.75)
    assert type(found.kept) is type(form(values))
    assert list(map(float, found.kept)) == [*range(14, -1, -1)]
    assert list(map(float, found.rejected)) == [*range(19, 14, -1)]
    assert found.mask.tolist() == [False] * 5 + [True] * 15
    assert found.threshold == Threshold(14.0, "quantile: kept 0.75")
    assert str(found) == "15 of 20 kept (75 %): score up to 14 (quantile: kept 0.75)"
    assert str(found.mask) == "15 of 20 kept (75 %): score up to 14"


def test_samples_bring_their_scores():
    drawn = SimpleNamespace(x=torch.arange(8.0)[:, None], scores={"hal": np.arange(8.0), "lid": np.arange(8.0)[::-1]})
    assert filter(drawn, kept=0.5).kept.flatten().tolist() == [4, 5, 6, 7]  # lid, the default of finished samples
    assert filter(drawn, kept=0.5, by="hal").kept.flatten().tolist() == [0, 1, 2, 3]
    assert filter(drawn.x, drawn.scores, kept=0.5, by="hal").threshold.score == "hal"
    assert filter(drawn.x, {"a": np.arange(8.0), "b": np.zeros(8)}, kept=0.5).threshold.score == "a"
    drawn.scores = {}
    with pytest.raises(InputError, match=r"scores: numbers of shape none"):
        filter(drawn, kept=0.5)


def test_a_reference_and_labels_may_be_arrays():
    scores, _ = mixed()
    bad = torch.from_numpy(scores > 20.5)
    found = filter(scores, scores, labels=bad, removed=0.9)
    assert found.threshold == Threshold.labelled(scores, bad, removed=0.9)
    found = filter(scores, scores, reference={"hal": scores + 1, "lid": scores}, by="lid", alpha=0.1)
    assert found.threshold == Threshold.conformal(scores, 0.1, score="lid")


def test_a_sample_without_a_score_is_in_neither_part():
    scores = np.array([0.0, np.nan, 2.0, np.inf, 1.0])
    found = filter(np.arange(5), scores, kept=0.5)
    assert found.kept.tolist() == [0, 4]
    assert found.rejected.tolist() == [2, 3]
    assert str(found).startswith("2 of 5 kept (40 %), 1 without a score: ")


@given(data=st.data(), share=st.integers(1, 99).map(lambda k: k / 100))
@pytest.mark.filterwarnings("ignore:kept:UserWarning")
def test_within_labels_every_label_keeps_its_share(data, share):
    """Whatever the scores and the sizes of the classes; scores without ties keep exactly the smallest enough."""
    sizes = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=5))
    labels = np.repeat([f"class {k}" for k in range(len(sizes))], sizes)
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    order = rng.permutation(len(labels))
    labels, scores = labels[order], rng.permutation(len(labels)) + 0.0
    found = filter(scores, scores, kept=share, within=labels)
    for cut, name in zip(found.cuts, sorted(set(labels)), strict=True):
        mine = labels == name
        need = max(1, math.ceil(share * mine.sum() - 1e-9))
        assert found.mask[mine].sum() == need == cut.kept
        assert cut.samples == mine.sum()
        assert scores[mine][found.mask[mine]].max() == cut.threshold.value == np.sort(scores[mine])[need - 1]


def test_within_labels_no_class_is_starved():
    scores, classes = mixed()
    assert np.bincount(classes[filter(scores, scores, kept=0.5).mask], minlength=3).tolist() == [100, 50, 0]
    found = filter(scores, scores, kept=0.5, within=torch.from_numpy(classes))
    assert np.bincount(classes[found.mask]).tolist() == [50, 50, 50]
    first, *rest = str(found).splitlines()
    assert first == "150 of 300 kept (50 %), within each label"
    assert [row.split(":")[0] for row in rest] == ["  0", "  1", "  2"]
    with pytest.raises(InputError, match="there are 3, one for each label; see cuts"):
        _ = found.threshold
    bad = np.isin(np.arange(300) % 100, range(10))
    found = filter(scores, scores, labels=bad, removed=0.5, within=classes)
    for cut, k in zip(found.cuts, range(3), strict=True):
        assert cut.threshold == Threshold.labelled(scores[classes == k], bad[classes == k], removed=0.5)


def test_numbered_labels_are_told_in_their_order():
    labels = np.tile(np.arange(12), 3)
    assert [cut.label for cut in filter(labels, range(36), kept=0.5, within=labels).cuts] == list(map(str, range(12)))
    assert [cut.label for cut in filter(labels[:6], range(6), kept=0.5, within=["b", "10", "9"] * 2).cuts] == [
        *("9", "10", "b")
    ]


def test_a_class_that_keeps_all_is_told():
    with pytest.warns(UserWarning, match=r"kept: a share of 0\.9 keeps all 2 samples of few"):
        filter(np.arange(22), np.arange(22.0), kept=0.9, within=["few"] * 2 + ["many"] * 20)
    with pytest.warns(UserWarning, match=r"keeps all 2 samples of a, and of 1 more labels$") as told:
        filter(np.arange(4), np.arange(4.0), kept=0.9, within=["a", "b", "b", "a"])
    assert len(told) == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, r"give exactly one of kept, reference and labels \(got 0\)"),
        ({"kept": 0.5, "labels": [0, 1, 0]}, r"give exactly one of kept, reference and labels \(got 2\)"),
        ({"kept": 0.5, "out": "x"}, "out: is for data in files"),
        ({"kept": 0.5, "column": "x"}, "column: is for data in files"),
        ({"kept": 0.5, "by": "hal", "scores": {"lid": [1, 2, 3]}}, "scores: no column 'hal'; choose from lid"),
        ({"kept": 0.5, "scores": [1, 2]}, "scores: 2 for 3 samples; need one for each"),
        ({"kept": 0.5, "scores": [[1], [2], [3]]}, r"scores: numbers of shape \(3, 1\); must be \(n,\)"),
        ({"kept": 0.5, "scores": None}, "scores: the data holds none; give scores"),
        ({"kept": 0.5, "scores": ["a", "b", "c"]}, "scores: .* is not an array of numbers"),
        ({"labels": [0, 1]}, "labels: given must hold 3 values, one for each sample; it holds 2"),
        ({"labels": [0, 1, 2]}, "labels: must be true or false, 1 or 0, for each sample"),
        ({"labels": [0, 1, 0], "within": [0, 1, 1]}, r"hallucinated samples to fit .* \(within 0\)"),
        ({"kept": 0.5, "within": [0, 1]}, "within: given must hold 3 values"),
        ({"kept": 0.5, "within": [[0], [1], [2]]}, r"within: labels of shape \(3, 1\); must be one for each"),
        ({"kept": 0.5, "within": "none.csv"}, "within: none.csv not found"),
        ({"reference": [1] * 200, "within": [0, 1, 1]}, "within: a reference has no labels"),
        ({"kpet": 0.5}, "kpet: is no argument of filter; did you mean kept"),
    ],
)
def test_what_does_not_fit_is_one_line(given, expected):
    with pytest.raises(InputError, match=expected) as refused:
        filter(np.arange(3), **({"scores": [1.0, 2.0, 3.0]} | given))
    assert "\n" not in str(refused.value)


# within labels, in files


def kept_by_class(out):
    return np.bincount([int(name[6]) for name in listed(Path(out, "kept_scores.csv"))[0]], minlength=3).tolist()


@pytest.mark.parametrize("way", ["folder", "by id", "file_name", "metadata", "rows"])
def test_images_are_filtered_within_their_classes(done, here, way):
    ids, scores = scores_of()
    classes = [name[6] for name in ids]
    shuffled = np.random.default_rng(0).permutation(30)
    if way == "folder":
        within = "label"
    elif way == "metadata":
        within = "kind"
        rows = "".join(f"{ids[k]},{classes[k]}\n" for k in shuffled)
        Path("images/metadata.csv").write_text(f"file_name,kind\n{rows}")
        done("score", "model", "images", "--out", "again.parquet", *SETTINGS)
        shutil.move("again.parquet", "scores.parquet")
    elif way == "rows":
        within = "classes.npy"
        np.save(within, np.array(list(map(int, classes))))
    else:
        within, head = "classes.csv", "id" if way == "by id" else "file_name"
        Path(within).write_text("\n".join([f"{head},class", *(f"{ids[k]},{classes[k]}" for k in shuffled)]) + "\n")
    said = done("filter", "images", "--scores", "scores.parquet", "--kept", "0.6", "--within", within, "--out", "out")
    assert kept_by_class("out") == [6, 6, 6]  # of the second, ceil(0.6 * 9) of those that could be read
    assert said.startswith("18 of 30 kept (60 %), within each label\n")
    records = json.loads(Path("out/threshold.json").read_text())
    assert [record["label"][-1] for record in records] == ["0", "1", "2"]
    for record in records:
        mine = np.array([score for score, k in zip(scores, classes, strict=True) if k == record["label"][-1]])
        assert record["value"] == np.sort(mine)[5]
        assert (record["samples"], record["kept"], record["skipped"]) == (10, 6, int(np.isnan(mine).sum()))
    with pytest.raises(InputError, match="holds a threshold for each of 3 labels"):
        Threshold.load("out/threshold.json")


def test_one_threshold_is_loaded_as_it_was_written(done, here):
    done("filter", "images", "--scores", "scores.parquet", "--kept", "0.6", "--out", "out")
    kept = listed(here / "out/kept_scores.csv")[1]
    assert Threshold.load("out/threshold.json") == Threshold(kept.max(), "quantile: kept 0.6", "hal-renoise")


def test_a_path_in_python_writes_what_the_command_writes(done, here):
    done("filter", "images", "--scores", "scores.parquet", "--kept", "0.75", "--out", "a")
    found = filter("images", "scores.parquet", kept=0.75, out="b")
    assert tree(here / "a") == tree(here / "b")
    assert (found.out, found.kept, found.rejected) == (Path("b"), Path("b/kept"), Path("b/rejected"))
    assert found.mask.sum() == 22
    with pytest.raises(InputError, match="out: both parts of files are written; give a folder"):
        filter("images", "scores.parquet", kept=0.75)


@pytest.mark.parametrize(
    ("within", "expected"),
    [
        ("kind", "within: the metadata of images has no 'kind' for 30 images (class 0/00.png say), and no file is so"),
        ("half.csv", "within: half.csv has no label for 29 samples (class 0/03.png say); each must have one"),
        ("wide.csv", "within: wide.csv must hold one column of labels (found: a, b)"),
        ("few.npy", "within: few.npy must hold 30 values, one for each sample; it holds 3"),
        ("x.txt", "within: x.txt must end in .npy, .csv or .parquet, or be the name of a column"),
        ("pickled.npy", "within: pickled.npy cannot be read as labels (Object arrays cannot be loaded"),
    ],
)
def test_labels_that_do_not_fit_are_one_line(refused, here, within, expected):
    Path("half.csv").write_text("id,class\nclass 0/00.png,0\n")
    Path("wide.csv").write_text("id,a,b\nclass 0/00.png,0,1\n")
    Path("x.txt").write_text("0\n" * 30)
    np.save("few.npy", np.arange(3))
    np.save("pickled.npy", np.array([{}] * 30, dtype=object), allow_pickle=True)
    args = ["filter", "images", "--scores", "scores.parquet", "--kept", "0.5", "--out", "o", "--within", within]
    assert expected in refused(*args)
