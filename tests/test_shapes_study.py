"""The study of images: its smoke tier as a whole, what it says of scores, and what it refuses."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from intermode.errors import InputError
from intermode.evaluation import Estimate
from intermode.jobs import Store
from intermode.studies.image_scores import CRITICAL, PARTS
from intermode.studies.shapes import LABELS, STUDY, WORDS, Config, against, content, jobs
from intermode.study import configured, reproduce
from intermode.study.steps import labelled, pool_of
from intermode.targets.shapes import Shapes

SETTINGS = {"pool.n": 16, "model.train.steps": 5}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("shapes") / "run"
    return out, reproduce("shapes", "smoke", out, settings=SETTINGS)


def test_smoke_tier_says_what_it_must(run):
    out, metrics = run
    values, measures = metrics["values"], metrics["measures"]
    for rate in ("two_of_a_kind", "off_support_rate"):
        assert measures[rate]["low"] <= values[rate] <= measures[rate]["high"]
        assert (measures[rate]["n"], measures[rate]["method"]) == (16, "Wilson")
    # hardly trained, everything is off the support
    assert values["off_support_rate"] > 0.9
    assert sum(count for _, count in metrics["series"]["rules"]) == values["samples"] == 16
    rates = ("two_of_a_kind", "deformed_rate", "between_places_rate", "wrong_column_rate", "blank_rate")
    assert sum(16 * values[rate] for rate in rates) == pytest.approx(16 * values["off_support_rate"])
    assert [sum(counts) for counts in metrics["series"]["shapes_per_image"].values()] == [16] * 3
    ids = ["hallucinates", "duplicates-paper", "duplicates-best", "off-support-paper", "off-support-best"]
    assert [claim["id"] for claim in metrics["claims"]] == [*ids, "true-score", "hal-matched", "own-matched"]
    assert len([note for note in metrics["notes"] if "too few" in note]) == 4
    assert {"samples", "hallucinated", "film-strips", "loss"} <= set(metrics["figures"])
    for figure in metrics["figures"]:
        assert (out / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    assert not metrics["missing"]


def test_off_support_says_what_it_is_made_of(run):
    _, metrics = run
    wrong = {rule: count for rule, count in metrics["series"]["rules"] if rule != "in-support"}
    listed = ", ".join(f"{wrong[rule]} {words}" for rule, words in WORDS.items() if rule in wrong)
    assert wrong
    assert f"Off the support, of 16 images: {listed}." in metrics["notes"]
    assert f"of 16 are {listed}." in metrics["figures"]["hallucinated"]


def test_the_ideal_denoiser_draws_nothing_off_the_support_and_has_hal(run):
    out, metrics = run
    values, control = metrics["values"], metrics["measures"]["true_score_off_support"]
    assert (control["n"], control["value"], control["method"]) == (16, 0, "Wilson")
    config = configured(STUDY, "smoke", SETTINGS)
    done = {name: Store(out / "jobs").done(job) for name, job in jobs(config).items()}
    ideal = pool_of(done["ideal"])
    labels = Shapes().label(ideal.x)
    assert labels.counts() == {"in-support": 16}
    assert values["true_score_hal_median"] == pytest.approx(np.median(ideal.scores["hal"]))
    assert values["true_score_mean_shapes"] == labels.counts_by_kind.sum() / 16
    assert values["data_mean_shapes"] == pytest.approx(12 / 7)
    [row], strip = done["ideal-strip"].facts["rows"], done["ideal-strip"].tensors()["x0_hat"]
    assert labels.counts_by_kind[row].sum() > 1
    assert torch.allclose(strip[-1, 0], ideal.x[row, 0], atol=1e-5)
    # at first almost all is possible
    assert strip[0, 0].max() < 0 < strip[-1, 0].max()


def test_labels_are_the_oracles_and_strips_end_in_the_image(run):
    out, _ = run
    config = configured(STUDY, "smoke", SETTINGS)
    store = Store(out / "jobs")
    done = {name: store.done(job) for name, job in jobs(config).items()}
    pool, labels = pool_of(done["pool"]), labelled(done["pool"], config.model.target)
    expected = Shapes().label(pool.x)
    for name in ("hallucinated", "duplicate", "counts_by_kind", "rule"):
        assert np.array_equal(getattr(labels, name), getattr(expected, name))
    strips = done["film-strips"]
    for k, row in enumerate(strips.facts["rows"]):
        # after the last step x_0 is what was predicted there
        assert torch.allclose(strips.tensors()["x0_hat"][-1, k], pool.x[row, 0], atol=1e-5)


def test_windows_hold_two_visited_timesteps_each():
    for tier in STUDY.tiers:
        config = configured(STUDY, tier)
        visited = np.array(config.visited)
        assert config.windows
        for low, high in config.windows:
            assert ((visited >= low) & (visited <= high)).sum() >= 2
            assert high < config.model.noise.timesteps
    assert (700, 850) in Config().windows


def test_hal_is_judged_where_there_is_enough_to_judge():
    bad = np.arange(800) % 4 < 2
    noise = np.random.default_rng(0).random(800)
    scores = {"hal": noise, "hal-0-20": noise, "hal-50-150": bad + noise}
    found = against(LABELS[1], scores, bad, 0).values
    assert abs(found["off_support_hal_paper_window_auroc"].value - 0.5) < 0.1
    assert (found["off_support_hal_best_window_low"], found["off_support_hal_best_window_high"]) == (50, 150)
    assert found["off_support_hal_best_removed_at_95_kept"].value == 1
    assert isinstance(found["off_support_hal_paper_window_removed_at_95_kept"], Estimate)
    few = against(LABELS[0], scores, np.arange(800) < 9, 0)
    assert few.values == {"hal_paper_window_removed_at_95_kept": None, "hal_best_removed_at_95_kept": None}
    assert "9 of 800" in few.notes[0]


def test_a_score_that_counts_shapes_is_told_from_one_that_knows(monkeypatch):
    config = configured(STUDY, "smoke", {"auditor": None})
    rng, n = np.random.default_rng(0), 3000
    shapes = rng.integers(1, 4, n)
    bad = rng.random(n) < np.array([0, 0.05, 0.2, 0.4])[shapes]
    labels = SimpleNamespace(
        duplicate=bad, hallucinated=bad, rule=np.where(bad, "duplicate", "in-support"),
        counts_by_kind=np.stack([shapes, 0 * shapes, 0 * shapes], 1),
    )  # fmt: skip
    x = torch.from_numpy(shapes / 25 - 1 + rng.normal(0, 1e-3, n))[:, None, None, None].expand(n, 1, 2, 2)
    counting, knowing = shapes + rng.normal(0, 0.1, n), bad + rng.normal(0, 0.3, n)
    pool = SimpleNamespace(x=x, scores={"hal": counting, "hal-0-5": counting, "hal-5-9": counting})
    look = {f"part.{part}": torch.from_numpy(np.stack([counting, knowing])) for part in PARTS}
    look |= {f"critical.{name}": torch.from_numpy(knowing) for name in CRITICAL}
    look["rows"] = torch.arange(n)
    monkeypatch.setattr("intermode.studies.shapes.labels_of", lambda *_: labels)
    monkeypatch.setattr("intermode.studies.shapes.pool_of", lambda _: pool)
    measured = content(config, {"own": SimpleNamespace(tensors=lambda: look), "pool": None})
    values = measured.values
    assert values["positives"] == bad.sum()
    assert values["white_auroc"].low > 0.65
    assert abs(values["white_matched_auroc"].value - 0.5) < 0.05
    assert values["hal_paper_auroc_finished"].low > 0.65
    assert abs(values["hal_paper_matched_auroc"].value - 0.5) < 0.05
    assert values["own_critical_matched_auroc"].low > 0.95
    assert values["best_matched_auroc"].value >= values["own_critical_matched_auroc"].value
    rows = {row["score"]: row for row in measured.rows if row["target"] == "two of a kind"}
    assert rows["bias"]["at"] == f"t = {config.timesteps[1]}"
    assert (rows["bias"]["tuned on labels"], rows["lid, critical window"]["tuned on labels"]) == ("yes", "no")
    first, second = measured.series["matched_by_level"]
    assert first["bias"][0] < 0.6 < 0.95 < second["bias"][0]
    assert [note for note in measured.notes if "0 images deformed" in note]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"levels": ()}, "levels"),
        ({"levels": (0, 500)}, "levels"),
        ({"scored": 0}, "scored"),
        ({"window": (850, 700)}, "window"),
        ({"window": (700, 1200)}, "window"),
        ({"model.shipped": None, "model.network.patch": 5}, "divide 64"),
        ({"pool.steps": 1}, "steps"),
        ({"pool.n": 0}, "n: 0"),
        ({"ideal": 0}, "ideal: 0"),
        ({"model.shipped": None, "model.network.channels": (10,)}, "multiples of 32"),
        ({"model.noise.timesteps": 900}, "pretrained"),
        ({"pool.chunk": 0}, "chunk"),
    ],
)
def test_bad_settings_are_one_line_and_leave_nothing(settings, word, tmp_path):
    with pytest.raises(InputError, match=word) as error:
        reproduce("shapes", "quick", tmp_path / "run", settings=settings)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_settings_are_checked_together():
    # neither fits the others of the tier alone
    config = configured(STUDY, "quick", {"window": (0, 3), "pool.steps": 1000})
    assert (config.window, config.pool.steps) == ((0, 3), 1000)
