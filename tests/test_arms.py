"""The arms of a recursion as jobs: who reads what, what is shared, what is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intermode.detect.bias import Bias
from intermode.detect.critical import InWindows, windows_of
from intermode.detect.lid import LID
from intermode.engines import Here
from intermode.errors import InputError
from intermode.evaluation import Estimate, over_seeds
from intermode.jobs import Done, Job, Running, Store, run_jobs
from intermode.progress import Silent
from intermode.recursion import select
from intermode.repairs import repair
from intermode.sampling import Samples, score, scores_of
from intermode.studies.recursion_mnist import DigitsModel, Source
from intermode.study import Found, Missing
from intermode.study.arms import (
    ALPHA,
    UNSEEN,
    Arms,
    Quantity,
    Recursion,
    compared,
    curves,
    finished,
    followed,
    growth_claims,
    key,
    recursion_jobs,
    select_data,
)
from intermode.study.configs import (
    MLP,
    CosineNoise,
    Drawing,
    Lattice,
    LatticeModel,
    LinearNoise,
    LineModel,
    Pool,
    ShapesModel,
    Training,
    UNet,
)
from intermode.study.steps import Guided, class_labels, denoiser_of, model_job, pool_job, pool_of, score_job
from intermode.thresholds import Threshold

MODEL = LatticeModel(
    size=60,
    target=Lattice(side=2),
    noise=LinearNoise(20, 0.01, 0.5),
    network=MLP(16),
    train=Training(5, 20),
)


@dataclass(frozen=True)
class Mean:
    """Measures the mean."""

    def __call__(self, pool: Samples) -> dict[str, Any]:
        return {"mean": float(pool.x.double().mean())}


def recursion(model: Any = MODEL, window: tuple[int, int] = (0, 8), **arms: Any) -> Recursion:
    settings = {"generations": 2, "unfiltered_generations": 2, "extra": 20, **arms}
    return Recursion(model, Drawing(chunk=32), Arms(**settings), window)


def jobs_of(config: Recursion, **more: Any) -> dict[str, Job]:
    return recursion_jobs(config, Mean(), **more)


def done_of(store: Store, job: Job) -> Done:
    done = store.done(job)
    assert done is not None
    return done


def finish(jobs: dict[str, Job], place: Path) -> Store:
    store = Store(place)
    assert run_jobs(list(jobs.values()), store, Here()) == {}
    return store


def trained_on(store: Store, model: Job, place: Path) -> dict[str, torch.Tensor]:
    """What trained a model, chosen again: the job's own folder is gone."""
    data = model.inputs["data"]
    place.mkdir()
    inputs = {name: done_of(store, source) for name, source in data.inputs.items()}
    select_data(Running(place, data.config, inputs, {}, Silent()))
    return Done(place, {}, {}).tensors()


@pytest.mark.parametrize("arm", ["all", "random", "hal", "lid", "oracle"])
def test_a_generation_trains_on_what_was_selected_of_the_one_before(arm: str, tmp_path: Path) -> None:
    jobs = jobs_of(recursion(names=(arm,)))
    store = finish(jobs, tmp_path / "jobs")
    for g in (1, 2):
        model = jobs[key(0, arm, g, "model")]
        data = model.inputs["data"]
        assert not store.folder(data).exists()  # read by nobody any more
        pool_before = jobs[key(0, arm, g - 1, "pool")]
        assert data.inputs[f"pool-{g - 1:02d}"].identity == pool_before.identity
        pool = pool_of(done_of(store, pool_before))
        if arm in ("lid", "oracle"):
            scored = done_of(store, data.inputs[f"scores-{g - 1:02d}"])
            pool = replace(pool, scores={**pool.scores, **scores_of(scored.tensors())})
        rows = select(arm, pool, 60, 0, g)
        assert torch.equal(trained_on(store, model, tmp_path / f"data-{g}")["x"], pool.x[torch.from_numpy(rows)])
        row = done_of(store, jobs[key(0, arm, g, "row")]).facts
        drawn = pool_of(done_of(store, jobs[key(0, arm, g, "pool")]))
        assert row == {"diverged": 0, "trained_on": 60, "mean": float(drawn.x.double().mean())}
        assert len(drawn.x) == 80


def test_generation_0_is_made_once_for_all_arms_of_a_seed() -> None:
    jobs = jobs_of(recursion(names=("all", "random", "hal"), seeds=2))
    assert len(jobs) == len({job.identity for job in jobs.values()}) == 3 * 2 * (1 + 3 * 2)
    for seed in (0, 1):
        first = {
            jobs[key(seed, arm, 1, "model")].inputs["data"].inputs["pool-00"].identity
            for arm in ("all", "random", "hal")
        }
        assert first == {jobs[key(seed, "", 0, "pool")].identity}
        assert "data" not in jobs[key(seed, "", 0, "model")].inputs


def test_generations_have_seeds_of_their_own() -> None:
    jobs = jobs_of(recursion(names=("all",), seeds=2))
    models = {name: job.config.seed for name, job in jobs.items() if name.endswith("-model")}
    assert sorted(models.values()) == [0, 1, 1000, 1001, 2000, 2001]
    pools = {job.config["seed"] for name, job in jobs.items() if name.endswith("-pool")}
    assert pools == set(models.values())


@pytest.mark.parametrize(
    "more",
    [
        {"names": ("all", "random", "hal", "lid")},
        {"names": ("all", "random", "hal"), "generations": 4},
        {"names": ("all", "random", "hal"), "seeds": 3},
        {"names": ("all", "random", "hal", "bias-critical", "oracle")},
    ],
)
def test_more_arms_generations_or_seeds_leave_what_is_there(more: dict[str, Any]) -> None:
    before = jobs_of(recursion(names=("all", "random", "hal")))
    after = jobs_of(recursion(**more))
    assert len(after) > len(before)
    assert {name: job.identity for name, job in before.items()} == {name: after[name].identity for name in before}


def test_all_has_generations_of_its_own() -> None:
    jobs = jobs_of(recursion(names=("all", "hal"), generations=1, unfiltered_generations=3))
    assert key(0, "all", 3, "row") in jobs
    assert key(0, "hal", 1, "row") in jobs
    assert key(0, "hal", 2, "row") not in jobs


def test_accumulation_and_fresh_data_reach_the_training(tmp_path: Path) -> None:
    jobs = jobs_of(recursion(names=("hal",), accumulate=True, fresh=0.25))
    store = finish(jobs, tmp_path / "jobs")
    rows = [done_of(store, jobs[key(0, "hal", g, "row")]).facts["trained_on"] for g in range(3)]
    assert rows == [60, 120, 180]
    x = trained_on(store, jobs[key(0, "hal", 2, "model")], tmp_path / "data")["x"]
    real = MODEL.target.target.sample(90, 0)
    assert torch.equal(x[:60], real[:60])
    pool = pool_of(done_of(store, jobs[key(0, "", 0, "pool")]))
    assert torch.equal(x[60:120], pool.x[torch.from_numpy(select("hal", pool, 60, 0, 1))])
    assert torch.equal(x[-15:], real[75:90])  # 60..74 were generation 1's


@pytest.mark.parametrize("tuned", [True, False])
def test_generations_after_0_go_on_from_its_weights_if_they_are_tuned(tuned: bool, tmp_path: Path) -> None:
    model = replace(MODEL, train=Training(1, 20, learning_rate=1e-9))  # weights stay where they begin
    jobs = jobs_of(recursion(model, names=("all",)), tuned=model if tuned else None)
    store = finish(jobs, tmp_path)
    networks = [denoiser_of(done_of(store, jobs[key(0, "all", g, "model")])).network for g in range(3)]
    first, *later = [torch.cat([v.flatten() for v in network.parameters()]) for network in networks]
    assert [torch.allclose(weights, first, atol=1e-6) for weights in later] == [tuned, tuned]


def test_a_shipped_model_is_where_every_training_begins() -> None:
    model = ShapesModel(size=32, shipped="shapes", train=Training(5, 8))
    config = Recursion(model, Drawing("small", 50, 8), Arms(("all",), 1, 1), (100, 300))
    jobs = jobs_of(config)
    starts = {jobs[key(0, "all", g, "model")].inputs["start"] for g in (0, 1)}
    (start,) = starts
    assert start.config == model
    assert all(jobs[key(0, "all", g, "model")].config.shipped is None for g in (0, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generations": 0}, "generations: 0 must be at least 1"),
        ({"unfiltered_generations": 0}, "unfiltered_generations: 0 must be at least 1"),
        ({"seeds": 0}, "seeds: 0 must be at least 1"),
        ({"extra": -1}, "extra: -1 must be at least 0; the pool would be smaller than what is kept"),
        ({"fresh": 1.5}, "fresh: 1.5 is outside 0..1"),
        ({"names": ()}, "arms: none; name at least one, each once"),
        ({"names": ("hal", "hal")}, "arms: hal hal; name at least one, each once"),
        ({"names": ("all", "lidd")}, "arms: unknown lidd; choose from all, random, repair, hal, "),
        ({"names": ("all", "lidd-critical")}, "arms: unknown lidd-critical; choose from all, random, repair, hal, "),
        ({"names": ("knn-critical",)}, "arms: knn-critical asks no model at timesteps"),
        ({"names": ("hal-critical",)}, "arms: hal-critical asks no model at timesteps, or watches, or needs data"),
        (
            {"names": ("diffpath-critical",)},
            "choose bias-critical, residual-critical, lid-critical, hal-renoise-critical",
        ),
        ({"names": ("bias-critical-per-class",)}, "needs a model that is told classes; choose bias-critical"),
        ({"names": ("white",)}, "white scores images alone, not samples of shape (2,)"),
        ({"names": ("hal-conformal",)}, "arms: hal-conformal: real data is scored by a detector of finished samples"),
        ({"names": ("lid-critical-conformal",)}, "outside the critical windows, of a model without classes alone"),
        ({"names": ("hal-per-class",)}, "arms: hal-per-class needs a model that is told classes; choose hal"),
        ({"window": (5, 90)}, "window"),
        ({"window": (3, 3)}, "window"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        recursion(**change)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_scores_of_a_pool_are_those_of_its_samples(tmp_path: Path) -> None:
    """Scored in three blocks, the last chunk not full, as in one go."""
    model = model_job("model", MODEL)
    pool = pool_job("pool", model, Pool(n=75, chunk=32), 5)
    job = score_job("scores", model, pool, [LID(noises=4)], 7)
    assert len(job.inputs) == 3
    store = finish({"job": job}, tmp_path)
    x, denoiser = pool_of(done_of(store, pool)).x, denoiser_of(done_of(store, model))
    found = scores_of(done_of(store, job).tensors())["lid"]
    np.testing.assert_array_equal(found, score(LID(noises=4), denoiser, x, seed=7, chunk=32))


def test_classes_are_told_to_whoever_scores(tmp_path: Path) -> None:
    model = DigitsModel(
        size=20,
        target=Source("drawn", drawn=20),
        noise=LinearNoise(20, 0.01, 0.5),
        network=UNet(7, (32,), attention=()),
        train=Training(2, 4),
    )
    made = model_job("model", model)
    pool = pool_job("pool", made, Pool("small", 4, 8, 20), 5, view=Guided(2.0))
    job = score_job("scores", made, pool, [LID(noises=3)], 7)
    store = finish({"job": job}, tmp_path)
    x, denoiser = pool_of(done_of(store, pool), 10).x, denoiser_of(done_of(store, made))
    found = scores_of(done_of(store, job).tensors())["lid"]
    told = {"class_labels": class_labels(20, 10)}
    np.testing.assert_array_equal(found, score(LID(noises=3), denoiser, x, seed=7, chunk=8, **told))
    others = {"class_labels": (class_labels(20, 10) + 1) % 10}
    assert not np.array_equal(found, score(LID(noises=3), denoiser, x, seed=7, chunk=8, **others))


# an arm that looks at critical windows


def test_a_critical_arm_looks_at_the_windows_of_each_generations_model(tmp_path: Path) -> None:
    model = LineModel(size=60, shipped="gaussian-1d", train=Training(1, 20, learning_rate=1e-9))
    drawing = Drawing("small", 50, 32)
    config = Recursion(model, drawing, Arms(("bias-critical",), 2, extra=20), (0, 40))
    jobs = jobs_of(config)
    store = finish(jobs, tmp_path / "jobs")
    made, pool, last = (jobs[key(0, "bias-critical", *of)] for of in ((1, "model"), (1, "pool"), (2, "model")))
    data = last.inputs["data"]
    assert set(data.inputs) == {"pool-01", "scores-01"}
    # the same without jobs
    denoiser, x = denoiser_of(done_of(store, made)), pool_of(done_of(store, pool)).x
    own = windows_of(denoiser, sampler=drawing.sampler)
    detector = InWindows(Bias(window="critical"), own.windows, denoiser, own.x)
    apart = score(detector, denoiser, x, seed=1000, chunk=32)
    scores = scores_of(done_of(store, data.inputs["scores-01"]).tensors())["bias-critical"]
    np.testing.assert_array_equal(scores, apart)
    x_trained = trained_on(store, last, tmp_path / "data")["x"]
    assert torch.equal(x_trained, x[np.sort(np.argsort(apart, kind="stable")[:60])])
    # beside samples of another model the scores would be others
    others = model.target.target.sample(1000, 5)
    assert not np.array_equal(
        score(InWindows(Bias(window="critical"), own.windows, denoiser, others), denoiser, x), apart
    )


def test_an_arm_that_cannot_go_on_is_left_out_and_told(tmp_path: Path) -> None:
    """A network that has hardly been trained decides nothing anywhere."""
    config = recursion(names=("random", "bias-critical"), generations=1)
    jobs, store = jobs_of(config), Store(tmp_path / "jobs")
    failed = run_jobs(list(jobs.values()), store, Here())
    found = Found(jobs, store, failed)
    series, notes = finished(config, found)
    assert list(series) == ["random"]
    assert [note.partition(":")[0] for note in notes] == ["bias-critical is left out"]
    mean = Quantity(
        "mean", "mean", lambda rows: over_seeds([abs(row["mean"]) for row in rows]), lambda a, b: over_seeds([1])
    )
    measured = compared(config, series, [mean])
    assert measured.estimate("random_last_mean") == mean.mean([series["random"][-1]])
    assert measured.values["bias-critical_last_mean"] is None
    assert measured.values["bias-critical_over_random_mean_1"] is None
    picture = curves("mean", "mean", mean.mean, "Means.")
    assert picture.draw(config, found, measured, tmp_path / "mean.png") == "Means."
    with pytest.raises(Missing, match="bias-critical"):
        followed(config, found)
    with pytest.raises(Missing, match=r"random is left out: .*; bias-critical is left out"):
        finished(config, Found(jobs, Store(tmp_path / "nothing"), {}))


@pytest.mark.parametrize(
    ("names", "arm", "last"),
    [(("hal", "random", "all"), "all", 1), (("hal", "random"), "random", 2), (("hal",), "", 0)],
)
def test_growth_is_that_of_all_or_of_a_random_selection(names: tuple[str, ...], arm: str, last: int) -> None:
    config = recursion(names=names, generations=2, unfiltered_generations=1)
    series = {
        name: [{"generation": g, "seed": 0, "mean": mean**g} for g in range(config.arms.last(name) + 1)]
        for name, mean in (("hal", 2), ("random", 3), ("all", 5))
        if name in names
    }

    def of(rows: Sequence[dict[str, Any]]) -> Estimate:
        return Estimate(rows[0]["mean"], 0, 1)

    mean = Quantity("mean", "mean", of, lambda a, b: Estimate(a[0]["mean"] / b[0]["mean"], 0, 1))
    measured, claims = compared(config, series, [mean]), growth_claims(config, mean, "grows", "grows")
    assert [claim.measure for claim in claims] == (["growth_mean"] if arm else [])
    if arm:
        assert measured.values["growth_mean"].value == 1 / series[arm][-1]["mean"]
        assert f"generation {last}" in claims[0].statement
    else:
        assert "growth_mean" not in measured.values


def test_critical_arms_share_the_windows_of_generation_0() -> None:
    jobs = jobs_of(recursion(names=("bias-critical", "residual-critical"), generations=1))
    scores = [
        jobs[key(0, arm, 1, "model")].inputs["data"].inputs["scores-00"]
        for arm in ("bias-critical", "residual-critical")
    ]
    assert scores[0].identity != scores[1].identity
    blocks = [block for job in scores for block in job.inputs.values()]
    assert len({block.inputs["windows"].identity for block in blocks}) == 1


def test_a_bright_arm_trains_on_the_darkest_images(tmp_path: Path) -> None:
    images = ShapesModel(size=6, noise=CosineNoise(20), network=UNet(8, (32,), attention=()), train=Training(1, 4))
    jobs = recursion_jobs(Recursion(images, Drawing("small", 4, 8), Arms(("white",), 1, extra=6), (5, 19)), Mean())
    store = finish(jobs, tmp_path / "jobs")
    x = pool_of(done_of(store, jobs[key(0, "", 0, "pool")])).x
    darkest = np.sort(((x.clamp(-1, 1) + 1) / 2).double().mean((1, 2, 3)).argsort()[:6])
    assert torch.equal(trained_on(store, jobs[key(0, "white", 1, "model")], tmp_path / "data")["x"], x[darkest])


# an arm that repairs


def test_a_conformal_arm_takes_what_passes_a_threshold_of_unseen_real_data(tmp_path: Path) -> None:
    config = recursion(names=("lid-conformal", "lid"), fresh=0.1)
    jobs = jobs_of(config)
    store = finish(jobs, tmp_path / "jobs")
    for g in (0, 1):
        data = jobs[key(0, "lid-conformal", g + 1, "model")].inputs["data"]
        judge, model = data.inputs[f"threshold-{g:02d}"], jobs[key(0, "lid-conformal" if g else "", g, "model")]
        assert judge.inputs == {"model": model}
        cut = Threshold(**done_of(store, judge).facts)
        trained = 60 + 2 * 6  # on these, and on 6 fresh ones in each generation
        unseen = replace(MODEL, size=trained + UNSEEN).data()[0][trained:]
        own = config.detectors["lid"]
        scores = score(own, denoiser_of(done_of(store, model)), unseen, seed=1000 * g)
        assert cut.value == Threshold.conformal(scores, ALPHA).value
        pool = pool_of(done_of(store, data.inputs[f"pool-{g:02d}"]))
        pool = replace(pool, scores=scores_of(done_of(store, data.inputs[f"scores-{g:02d}"]).tensors()))
        rows = select("lid-conformal", pool, 60, 0, g + 1, cut)
        found = trained_on(store, jobs[key(0, "lid-conformal", g + 1, "model")], tmp_path / f"data-{g}")["x"]
        assert torch.equal(found[:54], pool.x[torch.from_numpy(rows)][:54])


def test_the_repair_arm_trains_on_its_pools_repaired(tmp_path):
    """By the model that drew each, with the pool's seed; what no restart mends is left out, as what diverged is."""
    jobs = jobs_of(recursion(names=("all", "repair"), generations=2, unfiltered_generations=1))
    store = finish(jobs, tmp_path)
    model, pool = (done_of(store, jobs[key(0, "repair", 1, what)]) for what in ("model", "pool"))
    data = jobs[key(0, "repair", 2, "model")].inputs["data"]
    assert set(data.inputs) == {"pool-01", "repaired-01"}
    repaired = done_of(store, data.inputs["repaired-01"])
    drawn = pool_of(pool)
    apart = repair(denoiser_of(model), drawn.x, seed=1000, chunk=32)
    tensors = repaired.tensors()
    assert torch.equal(tensors["samples"], apart.x)
    assert np.array_equal(tensors["diverged"].numpy(), apart.diverged | apart.given_up)
    assert repaired.facts["touched"] == apart.touched.sum() > 0
    x = trained_on(store, jobs[key(0, "repair", 2, "model")], tmp_path / "data")["x"]
    left = Samples(apart.x, {}, tensors["diverged"].numpy(), 0.0)
    assert torch.equal(x, apart.x[select("all", left, 60, 0, 2)])
