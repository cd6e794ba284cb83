"""One sample explained: blends are projections, ways are distances, and restarts are those of a repair."""

import json
import re
from pathlib import Path as FilePath

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_pipelines import ddpm

import intermode
from intermode import cli
from intermode.denoisers import MixtureDenoiser
from intermode.errors import InputError
from intermode.explaining import explain
from intermode.explaining.blends import between_modes, between_samples, between_shapes, blend_of
from intermode.explaining.paths import Path, levels_of
from intermode.explaining.restarts import restarted
from intermode.explaining.standing import Standing
from intermode.explaining.words import percent
from intermode.files import save_tensors, write_json
from intermode.models import SHIPPED as SHIPPED_FOLDER
from intermode.models import shipped_names
from intermode.progress import Silent
from intermode.repairs import repair
from intermode.samplers import Ancestral
from intermode.schedules import linear
from intermode.targets.gaussian import GaussianMixture, line
from intermode.targets.known import SHIPPED, of_model
from intermode.targets.lattice import grid
from intermode.targets.shape_support import around, nearest, render
from intermode.targets.shapes import Shapes

ROOT = FilePath(__file__).parents[1]
NUMBERS = st.lists(st.floats(-3, 3), min_size=6, max_size=6)


@given(NUMBERS)
def test_no_other_weight_comes_closer_than_the_blend(numbers):
    x, a, b = np.array(numbers).reshape(3, 2)
    found = blend_of(x, np.stack([a, b]), ["a", "b"])
    assert 0 <= found.weight <= 1
    others = [np.linalg.norm(x - (1 - w) * a - w * b) for w in np.linspace(0, 1, 101)]
    assert found.residual <= min(others) + 1e-9
    np.testing.assert_allclose(np.linalg.norm(x - found.mix), found.residual, atol=1e-12)
    np.testing.assert_allclose(found.distances, [np.linalg.norm(x - a), np.linalg.norm(x - b)])


def test_a_sample_on_a_line_is_the_blend_of_the_modes_beside_it():
    target = line()
    found = between_modes(np.array([1.32]), target)
    assert found.names == ("the mode at 1", "the mode at 2")
    np.testing.assert_allclose([found.weight, found.residual, *found.distances], [0.32, 0, 0.32, 0.68], atol=1e-12)
    beyond = between_modes(np.array([3.4]), target)
    assert (beyond.names[0], beyond.weight) == ("the mode at 3", 0)
    np.testing.assert_allclose(beyond.residual, 0.4)
    assert between_modes(np.array([1.0]), GaussianMixture([1.0], 0.1)) is None


def test_on_a_diagonal_of_a_lattice_the_ends_of_the_diagonal_are_taken_and_not_the_corner_beside():
    target = grid()
    low, high = target.means[0], target.means[6]  # one column and one row on
    x = low + 0.45 * (high - low)
    found = between_modes(x, target)
    np.testing.assert_allclose(found.anchors, [low, high])
    np.testing.assert_allclose([found.weight, found.residual], [0.45, 0], atol=1e-9)


def test_of_training_data_the_nearest_is_taken_with_the_best_of_the_next():
    data = np.random.default_rng(0).normal(size=(200, 1, 4, 4)).astype(np.float32)
    x = 0.7 * data[30] + 0.3 * data[90]
    found = between_samples(x, data, [str(k) for k in range(200)])
    square = ((data - x) ** 2).sum((1, 2, 3))
    near = np.argsort(square)[:16]
    assert found.names[0] == "30" == str(near[0])
    best = min(near[1:], key=lambda k: blend_of(x, data[[30, k]], ["", ""]).residual)
    assert found.names[1] == str(best)
    np.testing.assert_allclose(found.distances[0], np.sqrt(square[30] / 16), rtol=1e-6)


@pytest.mark.parametrize("keep_blank", [False, True])
def test_the_images_around_one_of_shapes_are_of_the_support_and_differ_in_one_column(keep_blank):
    target = Shapes(keep_blank=keep_blank)
    images = target.images(6, 3)
    own = nearest(images / 255.0, keep_blank=keep_blank)
    for k, image in enumerate(images):
        others, words = around(image / 255.0, own.present[k], own.row[k], own.column[k], keep_blank=keep_blank)
        assert len(words) == len(others) >= 3
        assert nearest(others / 255.0, keep_blank=keep_blank).distance.max() < 1e-9
        for other in others:
            columns = [(other[:, c : c + 21] != image[:, c : c + 21]).any() for c in (0, 21, 42)]
            assert sum(columns) == 1


def test_a_shape_half_way_between_two_places_is_half_of_each():
    present, row = np.array([[True, False, False]] * 2), np.array([[20, 0, 0]] * 2)
    pair = render(present, row, np.array([[5, 0, 0], [6, 0, 0]])) / 127.5 - 1.0
    x = 0.6 * pair[:1] + 0.4 * pair[1:]
    found = between_shapes(x, Shapes())
    assert found.names[1] == "the same with the triangle one place away"
    np.testing.assert_allclose([found.weight, found.residual], [0.4, 0], atol=1e-9)
    faint = 0.7 * pair[:1] - 0.3
    assert between_shapes(np.concatenate([faint]), Shapes(keep_blank=True)).names[1] == "the same with no triangle"


def test_a_way_moves_between_a_tenth_and_nine_tenths_of_its_largest_distance():
    timesteps, x = np.arange(10, -1, -1), np.zeros(1)
    away = timesteps / 10.0
    path = Path.of(timesteps, away[:, None, None], x, False)
    np.testing.assert_allclose(path.away, away)
    assert path.moved == (1, 9)
    back = np.where(timesteps > 5, 0.0, away)  # it has been away, and comes back
    assert Path.of(timesteps, back[:, None, None], x, False).moved == (1, 5)
    assert Path.of(timesteps, np.zeros((11, 1, 1)), x, False).moved is None
    one_runs_away = np.stack([away, away, 1e9 * away], axis=1)[..., None]
    np.testing.assert_allclose(Path.of(timesteps, one_runs_away, x, False).away, away)


def test_levels_fall_from_what_is_nearly_noise_to_the_first():
    schedule = linear()
    found = levels_of(schedule)
    assert found == sorted(set(found), reverse=True)
    assert found[-1] == 0
    a, s = schedule.level(found[0])
    assert 1e-3 <= (a / s) ** 2 < 2e-3


def test_restarts_are_the_tries_of_a_repair(schedule, modes):
    denoiser = MixtureDenoiser(modes, schedule)
    x = torch.full((30, 1), 1.45, dtype=torch.float64)
    found = repair(denoiser, x, threshold=-1.0, level=3, tries=1)  # nothing passes: all are as they were
    assert not found.mended.any()
    found = repair(denoiser, x, threshold=3.0, level=3, tries=1)
    row = int(np.flatnonzero(found.mended)[0])
    ours = restarted(denoiser, Ancestral(), x[row : row + 1], row, 3, 4, {}, 0, Silent())
    np.testing.assert_allclose(ours[0].item(), found.x[row].item(), rtol=1e-6)
    assert len({round(v, 6) for v in ours[:, 0].tolist()}) == 4


def test_shares_are_never_rounded_to_all_or_nothing():
    assert [percent(v) for v in (0, 0.5, 1, 0.999999, 1e-9, 0.9987)] == [
        *("0 %", "50 %", "100 %", "99.99 %", "0.01 %", "99.87 %")
    ]


def test_the_share_of_lower_scores_counts_the_others():
    values = np.array([1.0, 2.0, 2.0, 3.0, np.inf])
    assert Standing("hal", 2.0, values, False).lower == 0.25
    assert Standing("hal", np.inf, values, False).lower == 1.0


def test_each_shipped_model_has_its_target():
    words = {
        "gaussian-1d": "Gaussians at 1, 2, 3 of standard deviation 0.05",
        "shapes-under": "shapes",
        "shapes-local": "shapes, blank ones among them",
    }
    assert set(SHIPPED) == set(shipped_names())
    for model in SHIPPED:
        text = (SHIPPED_FOLDER / model / "config.json").read_text(encoding="utf-8")
        assert json.loads(text)["provenance"]["target"] == words.get(model, model)
        assert of_model(model).label(of_model(model).sample(5, 0)).rate == 0
    blank = torch.full((1, 1, 64, 64), -1.0)
    assert [of_model(name).label(blank).rate for name in ("shapes", "shapes-local")] == [1, 0]


@pytest.fixture(scope="module")
def samples():
    x = line().sample(300, 1)
    x[17] = 1.35
    return x


@pytest.fixture(scope="module")
def explained(samples):
    return intermode.explain("gaussian-1d", samples, 17)


def test_a_sample_between_two_modes_is_told_so_and_mended(explained):
    assert explained.hallucinated
    assert explained.standing.lower > 0.99
    assert explained.standing.computed
    assert explained.restarts.good.mean() > 0.7
    low, high = explained.path.moved
    typical = explained.typical.moved
    assert low < typical[0]  # a good one is settled at levels at which this one is not
    score, being, restart = str(explained).split("\n")
    assert score.startswith("Sample 17 has a lid of ")
    assert "off the support (between)" in score
    assert "65 % of the one with 35 % of the other come closest and leave nothing" in being
    assert f"noised again, its x0_hat leaves it between t = {low} and {high}" in being
    assert restart.startswith(f"Restarted 256 times from t = 3, {explained.restarts.good.sum()} end in the support")
    mended = "a repair mends it" + (" in some tries." if explained.restarts.good.mean() < 0.9 else ".")
    assert restart.endswith(mended)
    assert sum(explained.restarts.where.values()) == 256


def test_a_good_sample_stays_good(samples):
    found = explain("gaussian-1d", samples, 0)
    assert not found.hallucinated
    assert found.restarts.good.all()
    assert "in the support" in found.sentences[0]
    assert found.sentences[2].endswith("it was good, and stays so.")


def test_the_picture_and_the_numbers_are_written(explained, tmp_path):
    explained.save(tmp_path / "one.png")
    assert np.asarray(Image.open(tmp_path / "one.png").convert("L")).std() > 10
    record = json.loads((tmp_path / "one.json").read_text(encoding="utf-8"))
    assert record["sentences"] == list(explained.sentences)
    assert record["score"]["higher_than"] == explained.standing.lower
    assert record["blend"]["weight"] == pytest.approx(0.35)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.json", "one.png"]
    with pytest.raises(InputError, match="must be a file that ends in"):
        explained.save(tmp_path / "one.pdf")


def test_scores_that_the_samples_bring_are_taken(samples):
    scores = {"hal": np.arange(300.0), "lid": -np.arange(300.0)}
    found = explain("gaussian-1d", samples, 17, scores=scores)
    assert (found.standing.name, found.standing.value) == ("lid", -17)
    assert not found.standing.computed
    found = explain("gaussian-1d", samples, 17, scores=scores, by="hal")
    assert found.standing.lower == pytest.approx(17 / 299)
    assert "higher than that of 5.69 % of the 299 others" in found.sentences[0]


def test_without_a_target_scores_decide_and_training_data_is_blended(samples):
    model = intermode.load("gaussian-1d")  # its name would tell the target
    found = explain(model, samples, 17, data=[[1.0], [2.0], [5.0]])
    assert found.hallucinated is None
    assert found.restarts.limit[0] == "lid"
    assert found.restarts.good.any()
    assert not found.restarts.was_good
    assert found.blend.names == ("the training sample 0", "the training sample 1")
    assert "have a lid of at most" in found.sentences[2]


def test_the_way_that_a_run_recorded_is_taken(samples, tmp_path):
    for name, tensors, facts, inputs in (
        ("pool-0a", {"samples": samples, "score.hal": torch.arange(300.0)}, {}, {}),
        (
            "followed-0b",
            {
                "timesteps": torch.tensor([9, 3, 1, 0]),
                "x0_hat": torch.tensor([[2.35], [1.85], [1.45], [1.35]])[:, None],
            },
            {"rows": [17]},
            {"pool": "pool-0a"},
        ),
    ):
        folder = tmp_path / "run" / "jobs" / name
        save_tensors(folder / "tensors.safetensors", tensors)
        write_json(folder / "job.json", {"inputs": inputs})
        write_json(folder / "result.json", {"facts": facts, "made": {}})
    found = explain("gaussian-1d", tmp_path / "run", 17)
    assert found.path.recorded
    assert found.standing.name == "hal"
    np.testing.assert_allclose(found.path.away, [1.0, 0.5, 0.1, 0.0], atol=1e-6)
    assert found.path.moved == (1, 9)
    assert "on the way that was recorded its x0_hat came to it between t = 1 and 9" in found.sentences[1]
    assert not explain("gaussian-1d", tmp_path / "run", 18).path.recorded


def test_in_the_plane(tmp_path):
    target = grid()
    x = target.sample(40, 0)
    x[3] = torch.from_numpy((target.means[0] + target.means[1]) / 2)
    found = explain("grid", x, 3)
    assert found.rule == "between"
    np.testing.assert_allclose([found.blend.weight, found.blend.residual], [0.5, 0], atol=1e-6)
    found.save(tmp_path / "plane.png")
    assert (tmp_path / "plane.png").stat().st_size > 10_000


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A pipeline's folder, 12 images of 8×8 and 20 training images."""
    monkeypatch.chdir(tmp_path)
    ddpm(num_train_timesteps=20).save_pretrained("model")
    rng = np.random.default_rng(0)
    for name, n in (("made", 12), ("training", 20)):
        (tmp_path / name).mkdir()
        for k in range(n):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / name / f"{k:02d}.png")
    np.save("scores.npy", np.arange(12.0))
    return tmp_path


def test_a_folder_of_images_by_the_command(folder, capsys):
    args = ["explain", "model", "made", "5", "--data", "training", "--scores", "scores.npy", "--level", "2"]
    assert cli.main(args) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("Sample 05.png has a score of 5, higher than that of 45.5 % of the 11 others")
    assert "from the training sample " in said[1]
    assert said[2].startswith("Restarted 16 times from t = 2, ")
    assert said[3] == "picture: made-5.png; numbers: made-5.json"
    record = json.loads((folder / "made-5.json").read_text(encoding="utf-8"))
    assert record["sentences"] == said[:3]
    assert (folder / "made-5.png").stat().st_size > 10_000


def test_what_cannot_be_explained_is_one_line_and_writes_nothing(folder, capsys):
    np.save("nan.npy", np.where(np.arange(12) == 5, np.nan, 1.0))
    np.save("other.npy", np.zeros((4, 9, 9), np.uint8))
    np.save("not-finite.npy", np.full((4, 1, 8, 8), np.nan, np.float32))
    np.save("one.npy", np.zeros((1, 8, 8), np.uint8))
    before = sorted(folder.rglob("*"))
    for args, words in (
        (["made", "12"], "index: 12 is none of the 12 samples; must be in 0..11"),
        (["made", "5", "--scores", "nan.npy"], "scores: sample 05.png has no score (NaN)"),
        (["other.npy", "0"], "other.npy"),
        (["not-finite.npy", "1"], "index: sample 1 is not finite"),
        (["made", "5", "--data", "other.npy"], "other.npy"),
        (["made", "5", "--data", "one.npy"], "data: 1 training samples that can be read"),
        (["made", "5", "--out", "made/5.png"], "which is never changed"),
        (["made", "5", "--out", "x.pdf"], "must be a file that ends in .png"),
        (["made", "5", "--target", "line"], "target: is one of samples of shape (1,)"),
        (["made", "5", "--target", "lien"], "did you mean line?"),
        (["made", "5", "--by", "hal"], "by: there are no scores"),
        (["made", "5", "--level", "20"], "level: 20 is outside the timesteps"),
    ):
        assert cli.main(["explain", "model", *args]) == 2, args
        said = capsys.readouterr()
        assert words in said.err, said.err
        lines = [line for line in said.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        assert said.out == ""
    assert sorted(folder.rglob("*")) == before


def test_an_image_that_cannot_be_read_is_told_and_others_do_without_it(folder):
    (folder / "made" / "03.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"index: 03\.png cannot be read"):
        explain("model", "made", 3)
    found = explain("model", "made", 5)
    assert len(found.standing.values) == 11


def test_the_example_of_the_documentation_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "explain.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(block, names := {})
    assert names["found"].standing.lower == 1
    assert (tmp_path / "worst.json").exists()
