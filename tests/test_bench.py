"""The benchmark of detectors: its halves, its cells and its smoke tier as a whole."""

import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from intermode.denoisers import NetworkDenoiser
from intermode.detect.registry import DETECTORS, IMAGES_ALONE, Setting
from intermode.errors import InputError
from intermode.files import read_json, save_tensors
from intermode.jobs import Done, Running
from intermode.models import load_model, shipped
from intermode.progress import Silent
from intermode.studies import bench, bench_cells
from intermode.studies.bench import (
    COMBINED,
    STUDY,
    Config,
    claims,
    combined,
    conformal,
    jobs,
    of_the_best,
    promises,
    relative_time,
    row_of,
)
from intermode.studies.bench_cells import (
    REAL,
    SOURCES,
    Kept,
    auroc,
    candidates,
    choose_settings,
    choose_window,
    keep,
    kept_of,
    ranks_within,
    score_cell,
)
from intermode.study import configured, reproduce
from intermode.study.configs import Mixture
from intermode.targets.gaussian import line
from intermode.targets.shapes import Shapes

WELL = SOURCES["gaussian-1d-well"]
TARGET = line([1, 2, 3])
RUNNING = SimpleNamespace(config={"fitting": 200, "seed": 0}, device="cpu", progress=Silent())
COST = {"nfe": 1, "relative_time": 0.01}


@pytest.fixture
def denoiser(network, schedule):
    return NetworkDenoiser(network(), schedule)


@pytest.fixture
def kept():
    """Samples of the data and samples between its modes, with two windows of Hal that disagree between the halves."""
    rng = np.random.default_rng(0)
    n = 240
    bad = rng.random(n) < 0.4
    x = torch.where(torch.from_numpy(bad)[:, None], torch.tensor(1.5), TARGET.sample(n, 0))
    validation = np.arange(n) < n // 2
    signal = bad + 0.5 * rng.standard_normal(n)
    lucky = np.where(validation, signal + 3 * bad, rng.standard_normal(n))
    hal = {"hal-0-5": signal, "hal-0-9": lucky}
    return Kept(x, np.arange(n), bad, validation, ~validation, hal, [1e-6] * 5, n, int(bad.sum()))


@pytest.fixture
def real():
    return TARGET.sample(REAL, 1)


def labelled(kept):
    """The same samples with another label, which does not count all of them."""
    n = len(kept.bad)
    other, counted = np.random.default_rng(2).random(n) < 0.4, np.arange(n) % 3 > 0
    hal = {**kept.hal, "hal-0-3": other * 1.0}
    halves = {"validation": kept.validation & counted, "test": kept.test & counted}
    return replace(kept, bad=other, hal=hal, **halves)


def test_the_shipped_models_are_those_that_the_tiers_ask_for():
    for tier in STUDY.tiers:
        assert jobs(configured(STUDY, tier))
    for source in SOURCES.values():
        model = source.trained()
        assert (model.shipped is None) == (source.model == "under" and not source.image)
        if model.shipped:
            folder = shipped(model.shipped, model.noise.schedule, model.words)
            assert load_model(folder).shape == tuple(model.target.target.sample(1, 0).shape[1:])


def test_every_detector_of_the_registry_has_candidates():
    for shape in ((1,), (2,), (1, 64, 64)):
        for name in DETECTORS if len(shape) > 1 else DETECTORS.keys() - IMAGES_ALONE:
            found = {d.name.removesuffix("-largest") for d in candidates(name, Setting(shape, TARGET))}
            assert found == {name.removesuffix("-largest")}


def test_detectors_of_images_alone_have_cells_of_images():
    cells = {name for name in jobs(configured(STUDY, "quick")) if name.endswith("-white")}
    assert cells == {"cell-shapes-local-white", "cell-shapes-well-white"}


def test_settings_are_chosen_on_one_half_and_judged_on_the_other(kept):
    tensors, record = choose_window(kept, kept.hal)
    assert record["settings"] == "t = 0..9"  # better by luck where it was chosen ...
    row = row_of(kept, WELL, 0, "hal", record["settings"], COST, tensors["scores"].numpy())
    assert row["auroc"] == pytest.approx(auroc(kept.hal["hal-0-9"][kept.test], kept.bad[kept.test]))
    assert row["auroc"] < 0.65  # ... and by luck alone
    assert (row["hallucinated"], row["in_support"]) == (kept.bad[kept.test].sum(), (~kept.bad[kept.test]).sum())


def test_two_labels_of_the_same_samples_choose_their_own_settings(kept, denoiser, real):
    other = labelled(kept)
    assert choose_window(other, other.hal)[1]["settings"] == "t = 0..3"
    setting = Setting((1,), TARGET)
    both = choose_settings(candidates("residual", setting), denoiser, [kept, other], real, RUNNING)
    for found, pool in zip(both, (kept, other), strict=True):
        (alone,) = choose_settings(candidates("residual", setting), denoiser, [pool], real, RUNNING)
        assert found[1]["settings"] == alone[1]["settings"]
        assert torch.equal(found[0]["scores"], alone[0]["scores"])
    assert both[0][1]["settings"] != both[1][1]["settings"]


def kept_by(data, drawn, monkeypatch, folder):
    """A job that kept some of what was drawn, labelled by the data."""
    monkeypatch.setattr(bench_cells, "denoiser_of", lambda *_: None)
    monkeypatch.setattr(bench_cells, "_evaluation_seconds", lambda *_: [1e-6])
    n = len(drawn)
    tensors = {"samples": drawn, "diverged": torch.zeros(n, dtype=torch.bool)}
    save_tensors(folder / "drawn" / "tensors.safetensors", {**tensors, "score.hal-0-9": torch.arange(1.0 * n).double()})
    inputs = {"drawn": Done(folder / "drawn", {"seconds": 1.0}, {}), "model": None}
    numbers = {"hallucinated": 6, "in_support": 6, "seed": 0}
    config = {"labels": ["duplicate"], "target": SimpleNamespace(target=data), **numbers}
    running = Running(folder / "pool", config, inputs, {}, Silent())
    return Done(running.folder, keep(running), {})


@pytest.fixture
def pool(tmp_path, monkeypatch):
    """A job that kept ten bad images of sixty, four of them by another label too."""

    class Data:
        shape = (1, 64, 64)

        def label(self, x):
            k = np.arange(len(x))
            return SimpleNamespace(hallucinated=k < 10, duplicate=k < 4, counts=lambda: {"duplicate": 4, "blank": 6})

        def sample(self, n, seed):
            return torch.zeros(n, *self.shape)

    data, drawn = Data(), torch.arange(60.0)[:, None, None, None].expand(60, 1, 64, 64)
    return kept_by(data, drawn, monkeypatch, tmp_path), data


def test_what_another_label_alone_calls_hallucinated_is_not_counted(pool):
    done, _ = pool
    counted = {}
    for label, bad in (("hallucinated", 10), ("duplicate", 4)):
        kept = kept_of(done, label)
        assert (kept.drawn, kept.hallucinated) == (60, bad)
        assert not (kept.validation & kept.test).any()
        values = kept.x[:, 0, 0, 0]
        counted[label] = set(values[torch.from_numpy(kept.validation | kept.test)].tolist())
        assert len(counted[label]) == min(bad, 6) + 6
        assert {k for k in counted[label] if k < 10} <= set(range(bad))
        assert np.array_equal(kept.bad, values.numpy() < bad)
        assert set(values.tolist()) >= {0, 1, 2, 3}  # the rare ones are all there
        assert np.array_equal(kept.rows, values.numpy())  # where they come from
        assert np.array_equal(kept.hal["hal-0-9"], values.numpy())
    assert done.facts["rules"] == {"duplicate": 4, "blank": 6}
    assert {k for k in counted["duplicate"] if k >= 10} == {k for k in counted["hallucinated"] if k >= 10}


def test_a_cell_holds_the_scores_for_each_label(pool, tmp_path):
    done, data = pool
    config = {"detector": "hal", "labels": ["duplicate", "hallucinated"], "target": SimpleNamespace(target=data)}
    running = Running(tmp_path / "cell", config, {"pool": done, "model": None}, {}, Silent())
    facts = score_cell(running)
    assert [facts[label]["settings"] for label in config["labels"]] == ["t = 0..9"] * 2
    found = {"cell-shapes-local-hal": Done(running.folder, facts, {})}
    for source in (SOURCES["shapes-local"], SOURCES["shapes-off-support-local"]):
        record, parts = bench.cell_of(found, source, "hal")
        assert record == facts[source.label]
        assert np.array_equal(parts["scores"], kept_of(done, source.label).hal["hal-0-9"])


@pytest.mark.parametrize("name", ["knn", "residual", "hal-renoise", "oracle"])
def test_cells_of_sample_detectors(kept, denoiser, real, name):
    setting = Setting((1,), TARGET)
    ((tensors, record),) = choose_settings(candidates(name, setting), denoiser, [kept], real, RUNNING)
    assert tensors["scores"].shape == (240,)
    assert min(record["seconds"]) > 0
    # data that the detector was neither fitted on nor calibrated with
    assert ("checking" in tensors) == (name != "oracle")
    if name == "knn":
        assert record["nfe"] == 0
        assert auroc(tensors["scores"].numpy(), kept.bad) > 0.99
        cut = np.quantile(tensors["calibration"], 0.95)
        share = (tensors["checking"] <= cut).double().mean()
        assert abs(share - 0.95) < 0.03  # of 2,900 each: 0.03 is over 5 standard errors of the difference
    if name == "oracle":
        assert auroc(tensors["scores"].numpy(), kept.bad) == 1


def test_a_pair_of_scores_is_found_that_is_better_than_either(kept):
    rng = np.random.default_rng(1)
    # each sees half of the hallucinations
    first = kept.bad * (rng.random(240) < 0.5)
    scores = {
        "a": 4.0 * first + rng.standard_normal(240),
        "b": 4.0 * (kept.bad & ~first) + rng.standard_normal(240),
        "c": rng.standard_normal(240),
    }
    rows = [row_of(kept, WELL, 0, name, "", COST, s) for name, s in scores.items()]
    (row,) = combined(kept, WELL, 0, scores, rows)
    assert row["detector"] == COMBINED
    assert row["settings"].endswith("of a and b")
    assert (row["nfe"], row["relative_time"]) == (2, 0.02)
    assert row["auroc"] > max(r["auroc"] for r in rows)
    assert combined(kept, WELL, 0, scores, [{**r, "nfe": 51} for r in rows]) == []  # none is cheap


def test_a_difference_is_found_where_intervals_do_not_meet(kept):
    rng = np.random.default_rng(3)
    noise = rng.standard_normal(240)
    rows = {
        "hal": row_of(kept, WELL, 0, "hal", "", COST, noise),
        "good": row_of(kept, WELL, 0, "good", "", COST, kept.bad + 0.3 * noise),
        COMBINED: row_of(kept, WELL, 0, COMBINED, "", COST, kept.bad + 0.31 * noise),
    }
    image = replace(WELL, kind="shapes")
    found = of_the_best(image, list(rows.values()), {"good": "a time"})
    assert found["auroc_over_hal"].low > 0.2
    over = found["auroc_of_two_over_one"]
    assert over.low < over.value < over.high
    assert over.low < 0 < over.high
    assert found["best_relative_time"] == "a time"
    removed = of_the_best(WELL, list(rows.values()), {"good": ""})["best_removed_at_99_kept"]
    assert removed.value == rows["good"]["removed_at_99_kept"]
    assert of_the_best(WELL, [], {}) == {}


def test_images_are_judged_among_those_that_hold_as_much_too(kept):
    rng = np.random.default_rng(5)
    content = 1 + kept.bad + rng.integers(0, 2, 240)  # 1..2 or 2..3: the bad ones hold more
    images = replace(kept, content=content)
    row = row_of(images, WELL, 0, "white", "", COST, content + 0.0)
    assert row["auroc"] > 0.7
    assert row["matched_auroc"] == 0.5
    seeing = row_of(images, WELL, 0, "good", "", COST, images.bad + 0.0)
    assert (seeing["matched_auroc"], seeing["matched_auroc_high"]) == (1, 1)
    few = replace(images, test=images.test & (~images.bad | (np.cumsum(images.bad & images.test) < 8)))
    assert row_of(few, WELL, 0, "good", "", COST, few.bad + 0.0)["matched_auroc"] is None
    assert "matched_auroc" not in row_of(kept, WELL, 0, "good", "", COST, kept.bad + 0.0)
    best = of_the_best(
        SOURCES["shapes-local"],
        [{**r, "target": "shapes", "model": "local"} for r in (row, seeing)],
        {"good": "", "white": ""},
    )
    assert best["best_matched_auroc"].value == 1


def test_a_pool_of_images_knows_how_much_each_holds(tmp_path, monkeypatch):
    target = Shapes()
    x = target.sample(30, 0)
    x[:2] = torch.maximum(x[2:4], x[4:6])  # two images in one
    done = kept_by(target, x, monkeypatch, tmp_path)
    found = kept_of(done, "hallucinated")
    assert np.array_equal(found.content, target.label(found.x).counts_by_kind.sum(1))
    assert found.content.min() >= 1


def test_relative_times_are_those_of_whole_chains():
    found = relative_time([2e-3, 2.2e-3, 1.8e-3], [1e-6, 1.1e-6, 0.9e-6])
    assert found.value == pytest.approx(2, rel=0.02)
    assert found.low < 2 < found.high < 4
    assert relative_time([], [1e-6]).high == 0
    assert not relative_time([1e-3], [1e-6, 2e-6]).method  # one measurement has no interval


def test_conformal_intervals_hold_both_samples(kept):
    """Kept shares of fresh calibrations: of 400, their intervals hold the promise about as often as they say."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(400):
        parts = {"calibration": rng.random(300), "checking": rng.random(300), "scores": rng.random(240) + kept.bad}
        found = next(row for row in conformal(WELL, "lid", parts, kept) if row["alpha"] == 0.05)
        value, low, high = found["real_kept"]
        assert low <= value <= high
        assert found["removed"][0] > 0.9
        held.append(low <= 0.95 <= high)
    assert np.mean(held) > 0.9  # of the checking sample alone: 0.83; 0.9 is 4.6 standard errors under 0.95


def test_too_few_scores_make_no_conformal_threshold(kept):
    parts = {"calibration": np.arange(60.0), "checking": np.arange(60.0), "scores": np.arange(240.0)}
    assert [row["alpha"] for row in conformal(WELL, "lid", parts, kept)] == [0.02, 0.05]


def test_conformal_claims_are_the_default_detectors():
    row = {"target": "gaussian-1d", "model": "well"}
    rows = [{**row, "detector": "knn", "auroc": 1.0}, {**row, "detector": "lid", "auroc": 0.9}]
    found = {"source": WELL.name, "alpha": 0.05, "removed": (1, 1, 1), "in_support_kept": (0.8, 0.78, 0.82)}
    kept = {"knn": (0.5, 0.5, 0.5), "lid": (0.95, 0.94, 0.96)}
    series = [{**found, "detector": name, "real_kept": value} for name, value in kept.items()]
    measured = promises(WELL, rows, series)
    assert measured["real_kept_0.05"].triple == kept["lid"]
    assert promises(WELL, rows[:1], series)["real_kept_0.05"].triple == kept["knn"]  # the best, as lid was not run
    decided = {
        claim.id: claim.bound.decide(measured.get(claim.measure.removeprefix(f"{WELL.name}_")))
        for claim in claims(Config(targets=(WELL.name,)))
    }
    assert decided[f"{WELL.name}-conformal-real-kept-0.05"] is True
    assert decided[f"{WELL.name}-conformal-in-support-kept-0.05"] is False
    assert decided[f"{WELL.name}-conformal-real-kept-0.01"] is None
    assert "threshold on lid that may lose 5% of unseen real data keeps at least 90%" in " ".join(
        claim.statement for claim in claims(Config(targets=(WELL.name,)))
    )


def test_ranks_are_shares_of_the_reference():
    reference = np.array([1.0, 2.0, 2.0, np.inf])
    assert ranks_within(np.array([0.0, 1.0, 2.0, 3.0, np.inf, np.nan]), reference).tolist() == [
        0.0,
        0.125,
        0.5,
        0.75,
        0.875,
        0.875,
    ]


def test_a_detector_in_critical_windows_is_its_own_row_and_chooses_nothing():
    """Its windows come from a job, and the cell of the same detector elsewhere stays what it is."""
    setting = Setting((1,), TARGET)
    (asked,) = candidates("lid-critical", setting)
    assert str(asked.window) == "critical"
    assert len(candidates("lid", setting)) > 1
    found = jobs(Config(targets=(WELL.name,), detectors=("lid",), critical=("lid",)))
    assert "windows" in found["cell-gaussian-1d-well-lid-critical"].inputs
    assert "windows" not in found["cell-gaussian-1d-well-lid"].inputs
    alone = jobs(Config(targets=(WELL.name,), detectors=("lid",), critical=()))
    assert alone["cell-gaussian-1d-well-lid"].identity == found["cell-gaussian-1d-well-lid"].identity


def test_an_audit_asks_another_model_and_is_no_detector_of_this_one(kept):
    found = jobs(configured(STUDY, "quick"))
    assert [name for name in found if name.endswith("-audit")] == [
        "cell-shapes-local-bias-audit",
        "cell-shapes-local-lid-audit",
    ]
    cell = found["cell-shapes-local-lid-audit"].inputs
    assert cell["model"].identity == found["model-shapes-well"].identity != found["model-shapes-local"].identity
    assert cell["windows"].inputs["model"].identity == cell["model"].identity
    assert cell["pool"].identity == found["pool-shapes-local"].identity
    source = SOURCES["shapes-local"]
    images = replace(kept, content=np.ones(240, int))
    rows = [
        row_of(images, source, 0, name, "", COST, images.bad + noise * np.random.default_rng(6).standard_normal(240))
        for name, noise in (("lid-audit", 0.1), ("hal", 2.0), ("knn", 1.0))
    ]
    measured = of_the_best(source, rows, {"knn": "a time"})
    assert measured["best_relative_time"] == "a time"  # the best of its own
    assert measured["audit_matched_auroc"].value == rows[0]["matched_auroc"] > measured["best_matched_auroc"].value
    asked = {claim.measure for claim in claims(Config(targets=("shapes-local", "shapes-off-support-well")))}
    assert "shapes-local_audit_matched_auroc" in asked
    assert "shapes-off-support-well_audit_matched_auroc" not in asked


OWN = """
import torch

class FarOut:
    name, nfe = "far-out", 0

    def check(self, schedule):
        pass

    def __call__(self, denoiser, x, noise, **condition):
        return (x.flatten(1) - 2).abs().amax(1).double()

class Ending:
    name, nfe = "ending", 0

    def check(self, schedule, timesteps):
        pass

    def start(self, shape):
        self.x = torch.zeros(shape)

    def update(self, step):
        self.x = step.x_next

    def score(self):
        return self.x.flatten(1)[:, 0].double()

class Broken(FarOut):
    name = "broken"

    def __call__(self, denoiser, x, noise, **condition):
        raise ValueError("no idea")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_detectors.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_detectors", raising=False)
    return "own_detectors:"


FEW = {"undertraining": 0.05, "draw": 6000, "hallucinated": 40, "in_support": 40}


def test_somebody_elses_detectors_run_with_the_others(own, tmp_path):
    names = ("hal", "knn", "white", "random", f"{own}FarOut", f"{own}Ending", f"{own}Broken")
    metrics = reproduce("bench", "smoke", tmp_path / "run", settings={**FEW, "detectors": names})
    rows = {row["detector"]: row for row in metrics["rows"]}
    assert list(rows) == ["hal", "knn", "random", "far-out", "ending", COMBINED]
    # what was watched while all were drawn again belongs to the samples that were kept
    source = SOURCES["gaussian-1d-under"]
    config = configured(STUDY, "smoke", {**FEW, "detectors": names})
    folder = tmp_path / "run" / "jobs"
    done = {
        name: Done(folder / job.folder, read_json(folder / job.folder / "result.json")["facts"], {})
        for name, job in jobs(config).items()
        if "broken" not in name
    }
    kept = kept_of(done[f"pool-{source.drawing}"], source.label)
    _, parts = bench.cell_of(done, source, "ending")
    assert np.array_equal(parts["scores"], kept.x[:, 0].double().numpy())
    # one that fails leaves the others, and is told; so is one that scores nothing but images
    assert "gaussian-1d-under: white scores images alone." in metrics["notes"]
    assert any("broken" in note and "no idea" in note for note in metrics["notes"])
    # another code is another cell
    before = {job.folder for job in jobs(config).values()}
    (tmp_path / "own_detectors.py").write_text(OWN + "\n# better now\n")
    changed = before ^ {job.folder for job in jobs(config).values()}
    assert {name.rsplit("-", 1)[0].removeprefix("cell-gaussian-1d-under-") for name in changed} == {
        "far-out",
        "ending",
        "broken",
    }


@pytest.mark.slow
def test_worker_processes_find_somebody_elses_detectors(own, tmp_path):
    names = ("hal", f"{own}FarOut", f"{own}Ending")
    metrics = reproduce("bench", "smoke", tmp_path / "run", settings={**FEW, "detectors": names}, workers=2)
    assert [row["detector"] for row in metrics["rows"]] == ["hal", "far-out", "ending", COMBINED]


@pytest.mark.slow
def test_smoke_tier_resumes_its_cells(tmp_path):
    out, names = tmp_path / "run", ("hal", "residual", "random", "oracle")
    first = reproduce("bench", "smoke", out, settings={"detectors": names})
    assert {row["detector"] for row in first["rows"]} == {*names, COMBINED}
    of = {row["detector"]: row for row in first["rows"]}
    assert of["oracle"]["auroc"] == 1
    assert "Leaderboard" in (out / "report.html").read_text()
    assert set(first["figures"]) == {"roc", "cost"}
    ids = {claim["id"] for claim in first["claims"]}
    assert {f"gaussian-1d-under-{end}" for end in ("best", "cost", "combined", "conformal-real-kept-0.01")} <= ids
    assert not first["missing"]
    assert not list((out / "jobs").glob("drawn-*"))  # only what was kept of it stays
    (cell,) = (out / "jobs").glob("cell-gaussian-1d-under-random-*")
    shutil.rmtree(cell)  # as if killed before it was written
    second = reproduce("bench", "smoke", out, settings={"detectors": names})
    rows = [[{k: v for k, v in row.items() if k != "relative_time"} for row in m["rows"]] for m in (first, second)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"targets": ("mnist",)}, "targets"),
        ({"detectors": ("nose",)}, "unknown 'nose'"),
        ({"detectors": ("hal", "hal")}, "at most once"),
        ({"detectors": ("own_detectors:FarOut", "own_detectors:FarOut")}, "at most once"),
        ({"detectors": ("no_module_of_mine:Name",)}, "cannot import no_module_of_mine"),
        ({"detectors": ()}, "at least one"),
        ({"critical": ("knn",)}, "critical: knn looks at no timesteps"),
        ({"audit": ("white",)}, "audit: white looks at no timesteps"),
        ({"images": 0}, "images"),
        ({"image_steps": 1}, "steps"),
        ({"undertraining": 0.0}, "undertraining"),
    ],
)
def test_bad_settings_are_one_line(settings, word, tmp_path):
    with pytest.raises(InputError, match=word) as error:
        reproduce("bench", "quick", tmp_path / "run", settings=settings)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_detector_without_a_cost_is_refused(own, tmp_path):
    (tmp_path / "own_detectors.py").write_text("class Free:\n  name = 'free'\n  check = __call__ = lambda *_: None\n")
    with pytest.raises(InputError, match="own_detectors:Free has no nfe"):
        Config(detectors=(f"{own}Free",))


def test_a_model_of_too_few_hallucinations_has_no_rows(pool):
    done, _ = pool
    found = {"pool-shapes-local": done}
    config = Config(targets=("shapes-local",), detectors=("hal", "lid"))
    measured = bench.leaderboard(config, found)
    assert measured.notes == ["shapes-local: 4 of 60 samples are hallucinated: too few to judge."]
    assert measured.values["shapes-local_rate"].value == 4 / 60
    assert not measured.rows
    assert all(measured.values[claim.measure] is None for claim in claims(config))


def test_mixtures_of_the_benchmark_are_the_studies():
    assert WELL.trained().target == Mixture()
