"""Scores of a whole data set: those of the samples, whatever the blocks, the interruptions and the broken files."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import nn

import intermode
from intermode.data import open_source
from intermode.denoisers import Denoiser, NetworkDenoiser
from intermode.detect.aleatoric import Aleatoric
from intermode.detect.hal import Hal, HalRenoise
from intermode.detect.knn import KNN
from intermode.detect.lid import LID
from intermode.detect.posterior_variance import PosteriorVariance
from intermode.errors import InputError
from intermode.files import save_tensors
from intermode.sampling import chunk_for, even_chunk, score
from intermode.schedules import linear
from intermode.scores import read_scores
from intermode.scoring import EveryClass, score_source

SHAPE = (3, 6, 5)
DETECTOR = HalRenoise(0, 9, 3)


class Mixing(nn.Module):
    """A network of images that is cheap and depends on every pixel and on t."""

    shape = SHAPE

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)
        nn.init.uniform_(self.layer.weight, -0.3, 0.3, generator=torch.Generator().manual_seed(0))
        nn.init.zeros_(self.layer.bias)

    def forward(self, x, t):
        return torch.tanh(self.layer(x) + t / 20)


@pytest.fixture(scope="module")
def denoiser():
    return NetworkDenoiser(Mixing().requires_grad_(False), linear(20), "x0")


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (23, 6, 5, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, pixels):
    (tmp_path / "images").mkdir()
    for k, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "images" / f"{k:02d}, a.png")
    return tmp_path / "images"


@pytest.fixture
def run(denoiser, tmp_path):
    """Scores a data set into a file and reads it again."""

    own = denoiser

    def run(data, name="scores.parquet", detectors=(DETECTOR,), denoiser=own, **settings):
        source = open_source(data, SHAPE)
        found = score_source(detectors, denoiser, source, tmp_path / name, settings={"window": [0, 9]}, **settings)
        return found, read_scores(tmp_path / name)

    return run


class Counting:
    """A detector that notes its batches, and is interrupted after some."""

    name, nfe = "hal-renoise", 3

    def __init__(self, stop_after=99):
        self.batches, self.stop_after, self.rows = 0, stop_after, []

    def check(self, schedule):
        DETECTOR.check(schedule)

    def __call__(self, denoiser, x, noise, **condition):
        self.batches += 1
        self.rows.append(len(x))
        if self.batches > self.stop_after:
            raise KeyboardInterrupt
        return DETECTOR(denoiser, x, noise, **condition)


def test_scores_of_a_folder_are_those_of_its_pixels(run, folder, pixels, denoiser):
    whole = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32)) / 127.5 - 1
    found, scores = run(folder, chunk=4, seed=5)
    assert np.array_equal(scores.columns["hal-renoise"], score(DETECTOR, denoiser, whole, seed=5, chunk=4))
    assert scores.ids == [f"{k:02d}, a.png" for k in range(23)]
    assert (found.samples, found.skipped, found.listed) == (23, 0, None)
    one_by_one, another_seed = (run(folder, **settings)[1] for settings in ({"chunk": 1, "seed": 5}, {"seed": 6}))
    assert np.allclose(one_by_one.columns["hal-renoise"], scores.columns["hal-renoise"], rtol=1e-5)
    assert not np.allclose(another_seed.columns["hal-renoise"], scores.columns["hal-renoise"], rtol=1e-2)


def test_what_cannot_be_read_is_listed_and_changes_no_other_score(run, folder, tmp_path):
    expected = run(folder, chunk=4)[1].columns["hal-renoise"]
    for k in (3, 4, 22):
        path = folder / f"{k:02d}, a.png"
        path.write_bytes(path.read_bytes()[:60])
    found, scores = run(folder, chunk=4)
    lost = np.isin(np.arange(23), (3, 4, 22))
    assert np.array_equal(np.isnan(scores.columns["hal-renoise"]), lost)
    assert np.array_equal(scores.columns["hal-renoise"][~lost], expected[~lost])
    assert found.skipped == scores.about["skipped"] == 3
    assert pq.read_table(tmp_path / "scores.parquet").column("hal-renoise").null_count == 3
    with found.listed.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "reason"]
    assert [row[0] for row in rows] == ["03, a.png", "04, a.png", "22, a.png"]
    assert all(row[1] for row in rows)
    (tmp_path / "strict").mkdir()
    with pytest.raises(InputError, match=r"data: 03, a\.png of .* cannot be read \(.+\)"):
        run(folder, "strict/scores.parquet", strict=True)
    for path in folder.iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"none of the 23 samples of .* can be read \(no image\)"):
        run(folder, "strict/scores.parquet")
    assert list((tmp_path / "strict").iterdir()) == []


@pytest.mark.parametrize("form", ["folder", "npy"])
def test_an_interrupted_scoring_goes_on_to_the_same_file(run, folder, pixels, tmp_path, form):
    data = folder
    if form == "npy":
        data = tmp_path / "x.npy"
        np.save(data, pixels)
    else:
        (folder / "01, a.png").write_bytes(b"no image")
    run(data, "unbroken.parquet", chunk=4)
    with pytest.raises(KeyboardInterrupt):
        run(data, detectors=[Counting(stop_after=3)], chunk=4)
    assert not (tmp_path / "scores.parquet").exists()
    rest = Counting()
    found, _ = run(data, detectors=[rest], chunk=4)
    assert rest.batches == 3
    assert found.skipped == (form == "folder")
    assert (tmp_path / "scores.parquet").read_bytes() == (tmp_path / "unbroken.parquet").read_bytes()
    assert not (tmp_path / ".scores.parquet.jobs").exists()


def test_a_file_of_scores_says_what_was_scored_by_what(run, folder, denoiser):
    about = run(folder, seed=4, chunk=8)[1].about
    assert about["data"] == {"form": "image folder", "samples": 23, "digest": open_source(folder).digest()}
    assert about["model"] == denoiser.identity
    assert about["detectors"] == {"names": ["hal-renoise"], "window": [0, 9]}
    assert (about["seed"], about["chunk"]) == (4, 8)


def test_several_detectors_have_a_column_each(run, folder, tmp_path):
    class Mean:
        name, nfe = "mean", 0

        def check(self, schedule):
            pass

        def __call__(self, denoiser, x, noise, **condition):
            return x.double().flatten(1).mean(1)

    _, scores = run(folder, detectors=(DETECTOR, Mean()))
    _, listed = run(folder, "scores.csv", detectors=(DETECTOR, Mean()))
    assert list(scores.columns) == list(listed.columns) == ["hal-renoise", "mean"]
    for name, values in scores.columns.items():
        assert np.array_equal(listed.columns[name], values)  # every digit is written
    assert listed.ids == scores.ids
    with pytest.raises(InputError, match=r"holds several columns \(hal-renoise, mean\); choose one as by"):
        scores.column(None, "scores")
    assert scores.column("mean", "scores")[1] is scores.columns["mean"]
    with pytest.raises(InputError, match=r"has no column 'hal'; choose from hal-renoise, mean"):
        scores.column("hal", "scores")
    with pytest.raises(InputError, match=r"can hold one score; choose a \.parquet or \.csv file"):
        run(folder, "scores.npy", detectors=(DETECTOR, Mean()))


def test_scores_of_other_data_are_refused(run, folder, pixels, tmp_path):
    _, scores = run(folder)
    _, listed = run(folder, "scores.csv")
    np.save(tmp_path / "x.npy", pixels)
    _, of_array = run(tmp_path / "x.npy", "array.parquet")
    for own in (scores, listed):
        own.check_data(open_source(folder))
        with pytest.raises(InputError, match=r"holds scores of other data than .*x\.npy"):
            own.check_data(open_source(tmp_path / "x.npy"))
    np.save(tmp_path / "x.npy", 255 - pixels)  # of the same size and ids
    with pytest.raises(InputError, match=r"holds scores of other data than .*x\.npy \(digest"):
        of_array.check_data(open_source(tmp_path / "x.npy"))
    (folder / "22, a.png").rename(folder / "23.png")
    with pytest.raises(InputError, match=r"\(row 22 is 22, a\.png there and 23\.png here\)"):
        listed.check_data(open_source(folder))
    (folder / "23.png").unlink()
    with pytest.raises(InputError, match="scores: 23 for 22 samples; need one for each"):
        listed.check_data(open_source(folder))


def test_a_reference_must_be_scored_the_same_way(run, folder, denoiser):
    _, ours = run(folder)
    run(folder, "same.parquet", seed=9)[1].check_same_score(ours, "reference")
    other = NetworkDenoiser(denoiser.network, denoiser.schedule, "eps")
    with pytest.raises(InputError, match=r"scored otherwise .*\(prediction is eps there and x0 here\)"):
        run(folder, "other.parquet", denoiser=other)[1].check_same_score(ours, "reference")


# samples in memory


def images(pixels):
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32)) / 127.5 - 1


def test_score_is_each_detectors_own_in_any_form_of_the_samples(denoiser, pixels, folder, run):
    x = images(pixels)
    found = intermode.score(denoiser, x, [DETECTOR, "residual", "hal"], seed=5, chunk=4)
    assert list(found) == ["hal-renoise", "residual", "hal"]
    assert np.array_equal(found["hal-renoise"], score(DETECTOR, denoiser, x, seed=5, chunk=4))
    for form in (pixels, torch.from_numpy(pixels), x.double(), x.numpy(), x.tolist()):
        again = intermode.score(denoiser, form, DETECTOR, seed=5, chunk=4)
        assert np.array_equal(again["hal-renoise"], found["hal-renoise"])
    _, of_files = run(folder, chunk=4, seed=5)
    assert np.array_equal(of_files.columns["hal-renoise"], found["hal-renoise"])


def test_finished_samples_are_scored_by_lid_unless_another_is_asked_for():
    model = intermode.load("gaussian-1d")
    assert list(intermode.score(model, [1.0, 1.5])) == ["lid"]
    (one,) = intermode.score("gaussian-1d", 1.5)["lid"]
    assert one == intermode.score(model, [[1.5]])["lid"]


def test_no_more_rows_are_computed_than_there_are_samples(denoiser, pixels):
    counting = Counting()
    intermode.score(denoiser, pixels, counting)
    assert counting.rows == [23]
    many = Counting()
    intermode.score(denoiser, np.concatenate([pixels] * 3), many)  # 69 in two chunks of at most 64
    assert many.rows == [35, 35]


def test_detectors_that_learn_are_shown_the_data(denoiser, pixels):
    x = images(pixels)
    own = KNN()
    own.fit(denoiser, x[:12])
    expected = score(own, denoiser, x)
    assert np.array_equal(intermode.score(denoiser, x, "knn", fit=pixels[:12])["knn"], expected)
    assert np.array_equal(intermode.score(denoiser, x, own)["knn"], expected)
    with pytest.raises(InputError, match="knn: must be fitted on training data first; give some as fit"):
        intermode.score(denoiser, x, "knn")
    with pytest.raises(InputError, match="fit: is of no use to residual"):
        intermode.score(denoiser, x, "residual", fit=x)
    with pytest.raises(InputError, match="fit: samples of shape"):
        intermode.score(denoiser, x, "knn", fit=x[:, :1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((2, 3, 6, 4))}, r"x: samples of shape \(3, 6, 4\); must be \(3, 6, 5\)"),
        ({"x": np.zeros((0, 3, 6, 5))}, "x: there are no samples"),
        ({"detectors": Hal(0, 9)}, r"hal: watches samples while they are made; .*HalRenoise"),
        ({"detectors": "lidd"}, r"detector: unknown 'lidd'; did you mean lid\?"),
        ({"chunk": 0}, "chunk: 0 must be a whole number"),
        ({"seed": -1}, "seed: -1 must be a whole number"),
        ({"condition": 3}, "condition: must be a mapping"),
    ],
)
def test_what_cannot_be_scored_is_refused(denoiser, pixels, change, message):
    with pytest.raises(InputError, match=message):
        intermode.score(**{"model": denoiser, "x": pixels, "detectors": DETECTOR} | change)


def test_a_denoiser_that_does_not_say_its_shape_scores_what_it_is_given(denoiser):
    class Foreign(Denoiser):
        schedule = denoiser.schedule

        def __call__(self, x_t, t, **condition):
            return 0.5 * x_t

    x = torch.rand(4, 2, dtype=torch.float64)
    found = intermode.score(Foreign(), x, DETECTOR)["hal-renoise"]
    assert np.array_equal(found, score(DETECTOR, Foreign(), x, chunk=4))


# classes


class Classed(Mixing):
    """Sees the image upright, mirrored or upside down, by its class."""

    description = {"kind": "unet", "classes": 3}  # noqa: RUF012 (stands for a network's property)

    def forward(self, x, t, class_labels):
        label = class_labels[:, None, None, None]
        return super().forward(torch.where(label == 1, x.flip(-1), torch.where(label == 2, x.flip(-2), x)), t)


@pytest.fixture(scope="module")
def classed():
    return NetworkDenoiser(Classed().requires_grad_(False), linear(20), "x0")


LOOKING = [LID((1, 2), 4), DETECTOR, PosteriorVariance("trace", (3,), 2), Aleatoric((1, 2), 2)]


@pytest.mark.parametrize("detector", LOOKING, ids=lambda d: d.name)
def test_without_labels_every_class_is_tried_and_the_smallest_counts(classed, pixels, detector):
    x, n = images(pixels), len(pixels)
    each = [intermode.score(classed, x, detector, condition={"class_labels": k}, seed=2, chunk=5) for k in range(3)]
    each = np.stack([scores[detector.name] for scores in each])
    assert (each.argmin(0) != each[:, 0].argmin()).any()
    tried = intermode.score(classed, x, detector, seed=2, chunk=5)[detector.name]
    assert np.array_equal(tried, each.min(0))
    labels = torch.arange(n) % 3
    told = intermode.score(classed, x, detector, condition={"class_labels": labels}, seed=2, chunk=5)[detector.name]
    assert np.allclose(told, each[labels, np.arange(n)], rtol=1e-5)
    assert EveryClass(detector, 3).nfe == 3 * detector.nfe


def test_a_data_set_is_scored_with_its_labels_or_with_every_class(classed, run, folder, pixels):
    x, labels = images(pixels), np.arange(23) % 3
    (folder / "03, a.png").write_bytes(b"no image")
    readable = np.arange(23) != 3
    for condition, about in (({"class_labels": labels}, None), (None, "the best of 3")):
        _, scores = run(folder, f"{about}.parquet", denoiser=classed, condition=condition, chunk=4)
        expected = intermode.score(classed, x, DETECTOR, condition=condition, chunk=4)["hal-renoise"]
        assert np.array_equal(scores.columns["hal-renoise"][readable], expected[readable])
        assert (scores.about["detectors"]["classes"] == about) == (about is not None)
    with pytest.raises(InputError, match=r"holds the scores so far of another run|fit 23 samples"):
        run(folder, "x.parquet", denoiser=classed, condition={"class_labels": labels[:5]})


def test_classes_that_cannot_be_are_refused(classed, denoiser, pixels, monkeypatch):
    for labels, message in (
        (7, r"class_labels: 7\.\.7; the model has 3 classes"),
        ([0, 1], "class_labels: shape .* does not fit 23 samples"),
        (np.zeros(23), "class_labels: torch.float64"),
    ):
        with pytest.raises(InputError, match=message):
            intermode.score(classed, pixels, DETECTOR, condition={"class_labels": labels})
    with pytest.raises(InputError, match="learns from no model that is told classes"):
        intermode.score(classed, pixels, "diffpath", fit=pixels)
    assert "knn" in intermode.score(classed, pixels, "knn", fit=pixels)
    monkeypatch.setattr(denoiser.network, "config", {"class_embed_type": "timestep"}, raising=False)
    with pytest.raises(InputError, match="condition: the model is told classes that cannot be tried"):
        intermode.score(denoiser, pixels, DETECTOR)
    monkeypatch.setattr(denoiser.network, "config", {"num_class_embeds": 10})
    assert denoiser.classes == 10


@pytest.mark.parametrize(
    ("name", "content", "columns", "ids"),
    [
        ("x.csv", "1\nnan\n3e-1\n", {"": [1, np.nan, 0.3]}, None),
        ("x.csv", 'id,hal\na,1\n"b,c",\n', {"hal": [1, np.nan]}, ["a", "b,c"]),
        ("x.csv", "text,a,id,b\nx,1,7,2\ny,3,8,inf\n", {"a": [1, 3], "b": [2, np.inf]}, ["7", "8"]),
        ("x.csv", "hal\n1\n2\n", {"hal": [1, 2]}, None),
    ],
)
def test_scores_from_elsewhere(tmp_path, name, content, columns, ids):
    (tmp_path / name).write_text(content)
    scores = read_scores(tmp_path / name)
    assert list(scores.columns) == list(columns)
    for column, values in columns.items():
        assert np.array_equal(scores.columns[column], values, equal_nan=True)
    assert scores.ids == ids
    assert scores.about is None


def test_scores_beside_samples_are_found(tmp_path):
    save_tensors(tmp_path / "x.safetensors", {"samples": torch.zeros(3, 2), "score.hal": torch.arange(3.0)})
    assert {k: v.tolist() for k, v in read_scores(tmp_path / "x.safetensors").columns.items()} == {"hal": [0, 1, 2]}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x.csv", "id,hal\na,1\nb\n", "has rows of another length than its header"),
        ("x.csv", "id,hal\na,x\n", "has no column of numbers (found: id, hal)"),
        ("x.csv", "id,hal\n", "has no column of numbers"),
        ("x.parquet", "PAR1", "cannot be read as parquet"),
        ("x.txt", "1", "must end in .npy, .csv or .safetensors"),
    ],
)
def test_files_that_hold_no_scores(tmp_path, name, content, expected):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as refused:
        read_scores(tmp_path / name, "reference")
    assert expected in str(refused.value)
    assert str(refused.value).startswith("reference: ")


def test_a_chunk_is_bounded_in_numbers_and_images():
    assert chunk_for((1,)) == 16384
    assert chunk_for((1, 28, 28)) == chunk_for((1, 64, 64)) == 64
    assert chunk_for((3, 256, 256)) == 1
    assert chunk_for((3, 2048, 2048)) == 1


@pytest.mark.parametrize("n", [1, 63, 64, 65, 128, 1000])
def test_chunks_are_even_and_compute_hardly_a_row_in_vain(n):
    size = even_chunk(n, (1, 64, 64))
    chunks = -(-n // size)
    assert size <= 64
    assert chunks == -(-n // 64)
    assert 0 <= chunks * size - n < chunks
    assert even_chunk(n, (1, 64, 64), 50) == min(n, 50)


MEASURE = """
import json, sys
from pathlib import Path
from torch import nn
from intermode.data import open_source
from intermode.denoisers import NetworkDenoiser
from intermode.detect.hal import HalRenoise
from intermode.schedules import linear
from intermode.scoring import score_source

class Tiny(nn.Module):
    shape = (3, 64, 64)
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)
    def forward(self, x, t):
        return self.layer(x)

import torch
torch.set_num_threads(1)
denoiser = NetworkDenoiser(Tiny().requires_grad_(False), linear(20))
source = open_source(Path(sys.argv[1]), (3, 64, 64))
score_source([HalRenoise(0, 1, 2)], denoiser, source, Path(sys.argv[2]), settings={})
# not getrusage, whose peak counts what the parent held when it started this process
peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps([len(source), int(peak)]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("form", ["folder", "npy", "parquet", "safetensors", "datasets"])
def test_memory_does_not_grow_with_the_number_of_images(tmp_path, form):
    """8,000 more images of 64×64 pixels, 96 MiB as bytes and 375 MiB as numbers, take hardly more memory: less than 24
    MiB, since what the allocator holds back is some 15 MiB, and no more for 30,000."""
    import io

    import pyarrow as pa

    rng = np.random.default_rng(0)

    def encoded(k):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, "PNG", compress_level=0)
        return file.getvalue()

    peak = {}
    for n in (2_000, 10_000):
        path = tmp_path / f"{n}.{form}"
        if form == "folder":
            path.mkdir()
            for k in range(n):
                (path / f"{k}.png").write_bytes(encoded(k))
        elif form == "npy":
            np.save(path, rng.integers(0, 256, (n, 64, 64, 3), dtype=np.uint8))
        elif form == "safetensors":
            save_tensors(path, {"samples": torch.randn(n, 3, 64, 64)})
        else:
            images = pa.array([encoded(k) for k in range(n)])
            if form == "parquet":
                pq.write_table(pa.table({"image": images}), path, row_group_size=n)  # one row group
            else:
                datasets = pytest.importorskip("datasets")
                datasets.Dataset(pa.table({"image": images})).save_to_disk(str(path))
            del images
        ended = subprocess.run(
            [sys.executable, "-c", MEASURE, str(path), str(tmp_path / f"{n}.scores.parquet")],
            capture_output=True,
            text=True,
            check=True,
        )
        count, peak[n] = json.loads(ended.stdout.splitlines()[-1])
        assert count == n
    assert peak[10_000] - peak[2_000] < 24 * 1024, peak
