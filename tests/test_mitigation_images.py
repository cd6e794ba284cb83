"""The images of the study of mitigations: portraits counted by hand, what is chosen, and their smoke tier."""

import matplotlib.image
import numpy as np
import pytest
import torch

from intermode.critical import critical_windows
from intermode.errors import InputError
from intermode.evaluation import ratio_of_shares, share
from intermode.jobs import Running, Store
from intermode.progress import Silent
from intermode.studies import find
from intermode.studies import mitigation_images as page
from intermode.studies import mitigations as study
from intermode.studies.mitigation_images import Images, Outcome, Treatment, portrait, portraits
from intermode.study import Found, configured, reproduce
from intermode.study.steps import pool_of
from intermode.targets.shapes import Shapes

METHODS = (
    "resample by white",
    "resample by lid",
    "selective repair by oracle",
    "selective repair by lid",
    "selective repair by lid, then late restart",
    "late restart",
    "early stop by bias",
)
SETTINGS = {"images.models": ("well",), "images.methods": METHODS}


def config():
    return configured(find("mitigations"), "smoke", SETTINGS)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The images alone: metrics, jobs and folder."""
    out = tmp_path_factory.mktemp("runs") / "mitigations"

    def few(denoiser, **settings):
        return critical_windows(denoiser, **{**settings, "n": 32, "condition": {}, "levels": range(0, 40, 5)})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "subjects", lambda config: [])
        patch.setattr("intermode.detect.critical.critical_windows", few)
        metrics = reproduce("mitigations", "smoke", out, settings=SETTINGS)
        found = Found(find("mitigations").jobs(config()), Store(out / "jobs"), {})
    return metrics, found, out


def facts(found, key):
    return found[f"shapes-well-{key}"].facts


def test_a_portrait_counted_by_hand():
    rule = np.array(["in-support", "in-support", "in-support", "duplicate", "blank", "in-support"])
    counts = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [2, 0, 1], [0, 0, 0], [1, 0, 0]])
    found = portrait(rule, counts)
    assert (found["n"], found["off"]) == (6, 2)
    assert found["rules"] == {"in-support": 4, "duplicate": 1, "blank": 1}
    assert found["patterns"] == [2, 0, 1, 0, 0, 0, 1]
    assert found["shapes"] == pytest.approx(7 / 4)
    halves = portraits(rule, counts)
    assert [halves[part]["n"] for part in ("all", "choose", "judge")] == [6, 3, 3]
    assert halves["choose"]["rules"] == {"in-support": 2, "blank": 1}
    # of what is kept, by the place in the pool
    kept = portraits(rule[[1, 3, 5]], counts[[1, 3, 5]], np.array([1, 3, 5]))
    assert (kept["choose"]["n"], kept["judge"]["n"]) == (0, 3)


def test_the_data_itself_is_on_the_support_and_of_equal_patterns():
    x = Shapes().sample(700, 0)
    found = portrait(*page.read_images(page.ShapesModel().target, x))
    assert found["off"] == 0
    assert found["shapes"] == pytest.approx(12 / 7, abs=6 * 0.7 / np.sqrt(700))
    assert np.array(found["patterns"]) / 700 == pytest.approx(np.full(7, 1 / 7), abs=6 * np.sqrt(6 / 49 / 700))


def outcome(method, settings, off, shapes=1.7, how="repair", detector="lid", more=0.1, n=1000):
    treatment = Treatment(method, settings, how, detector=detector)
    cost = {"more_evaluations": more, "more_time": more, "thrown_away": 0.0}
    kinds = {kind: share(0, n) for kind in page.KINDS}
    return Outcome(treatment, ((80, n), (off, n)), kinds, 0.0, shapes, shapes / 1.7 - 1, cost)


def test_settings_are_chosen_among_those_that_keep_the_content():
    seen = [
        outcome("resample by white", "60 %", 5, shapes=1.2, how="resample", detector="white"),
        outcome("resample by white", "90 %", 60, how="resample", detector="white"),
        outcome("selective repair by lid", "10 %", 40),
        outcome("selective repair by lid", "20 %", 30),
        outcome("selective repair by bias", "20 %", 20, detector="bias"),
    ]
    chosen = page.chosen(seen)
    assert {name: one.treatment.settings for name, one in chosen.items()} == {
        "resample by white": "90 %",
        "selective repair by lid": "20 %",
        "selective repair by bias": "20 %",
    }
    assert next(iter(chosen)) == "selective repair by bias"


def test_values_are_judged_on_other_images_and_resampling_at_no_more_compute():
    seen = [
        outcome("selective repair by bias", "20 %", 20, detector="bias", more=0.3),
        outcome("selective repair by oracle", "low", 2, detector="oracle", more=0.0),
        outcome("resample by lid", "60 %", 10, how="resample", more=0.9),
        outcome("resample by lid", "90 %", 50, how="resample", more=0.2),
        outcome("resample by white", "90 %", 5, how="resample", detector="white", more=0.1),
    ]
    tuned = {one.treatment.method + one.treatment.settings: one for one in seen}
    judge = {
        one.treatment.key: outcome(
            one.treatment.method,
            "",
            one.counts[1][0] + 5,
            how=one.treatment.how,
            detector=one.treatment.detector,
            more=one.cost["more_evaluations"],
        )
        for one in seen
    }
    values = page.values_of("shapes", tuned, judge)
    assert values["repair_shapes_ratio"] == ratio_of_shares((80, 1000), (25, 1000))
    assert values["repair_shapes_oracle_ratio"] == ratio_of_shares((80, 1000), (7, 1000))
    assert values["resample_shapes_ratio"] == ratio_of_shares((80, 1000), (55, 1000))
    assert values["repair_shapes_evaluations"] == 0.3
    assert values["resample_shapes_evaluations"] == 0.2


def test_what_cannot_be_measured_is_none():
    assert page.values_of("shapes", {}, {}) == {}
    with pytest.raises(InputError, match="models: unknown 'best'; choose from well, under"):
        Images(models=("best",))
    with pytest.raises(InputError, match="methods: unknown 'prayer'; choose from ancestral, fewer steps"):
        Images(methods=("prayer",))


def test_a_resampling_keeps_the_lowest_scores(run):
    _, found, _ = run
    x, n = pool_of(found["shapes-well-pool"]).x, 24
    labels = Shapes().label(x)
    white = ((x.clamp(-1, 1) + 1) / 2).flatten(1).mean(1)
    kept = np.sort(white.double().argsort(stable=True)[:14].numpy())  # 60 % of 24
    cell = facts(found, "resample_by_white_60__kept__no_model")
    assert cell["all"]["n"] == 14
    assert cell["all"]["off"] == labels.hallucinated[kept].sum()
    assert cell["more_evaluations"] == pytest.approx(n / 14 - 1)
    assert cell["thrown_away"] == pytest.approx(1 - 14 / n)
    # that which looks at details, too, looks into one window more
    cost = found["shapes-well-scored"].facts["cost"]
    windows = len(
        page.windows_known(found["shapes-well-windows"], page.denoiser_of(found["model-shapes-well"])).windows
    )
    assert cost["lid-details"]["nfe"] == cost["lid"]["nfe"] * (windows + 1) / windows
    # a detector's score costs evaluations of a chain of 20, before so many are drawn again
    nfe = found["shapes-well-scored"].facts["cost"]["lid"]["nfe"]
    cell = facts(found, "resample_by_lid_60__kept__critical_windows")
    assert nfe > 0
    assert cell["more_evaluations"] == pytest.approx((1 + nfe / 20) * n / 14 - 1)


def test_a_repair_touches_what_the_oracle_flags(run):
    """Hardly trained, everything is off the support, and no restart mends it."""
    _, found, _ = run
    bad = Shapes().label(pool_of(found["shapes-well-pool"]).x).hallucinated
    cell = facts(found, "selective_repair_by_oracle_from_t___100")
    assert cell["touched"] == pytest.approx(bad.mean())
    assert cell["all"]["off"] == round(cell["given_up"] * 24)
    # t = 4 of 40 by 20 steps: 4, then 2 and 0 of those visited, in every try
    visited = [t for t in np.linspace(0, 39, 20).round() if t < 4]
    if cell["given_up"] == cell["touched"]:
        assert cell["restarts"] == pytest.approx(bad.mean() * page.TRIES * (1 + len(visited)) / 20)


def test_a_late_restart_after_a_repair_is_of_all_images_and_is_counted(run):
    _, found, _ = run
    alone = facts(found, "selective_repair_by_lid_10__flagged__from_the_critical_window")
    visited = [t for t in np.linspace(0, 39, 20).round() if t < 4]
    for passes, words in ((1, "1_pass"), (3, "3_passes")):
        name = f"selective_repair_by_lid__then_late_restart_10__flagged__from_the_critical_window__{words}"
        both = facts(found, name)
        for cost in ("restarts", "more_evaluations"):
            assert both[cost] - alone[cost] == pytest.approx(passes * (1 + len(visited)) / 20)
        assert both["touched"] == alone["touched"]


def test_a_late_restart_after_a_repair_has_other_noise_than_its_tries(run, tmp_path, monkeypatch):
    """An image that was restarted would otherwise come down by the same noise again."""
    _, found, _ = run
    name = "shapes-well-selective_repair_by_lid__then_late_restart_10__flagged__from_the_critical_window__3_passes"
    job = find("mitigations").jobs(config())[name]
    inputs = {key: found[f"shapes-well-{key}"] for key in ("windows", "scored")}
    inputs |= {"model": found["model-shapes-well"], "drawn": found["shapes-well-pool"]}
    asked = []
    whole = page.restarted
    monkeypatch.setattr(page, "restarted", lambda *told: asked.append(told[-1]) or whole(*told))
    again = page.mend(Running(tmp_path, job.config, inputs, {}, Silent()))
    assert asked == [range(page.TRIES + 1, page.TRIES + 4)]
    assert again["all"] == found[name].facts["all"]


def test_restarts_are_those_of_the_sampler(run):
    from intermode.restart import Restart
    from intermode.sampling import generate
    from intermode.study.steps import denoiser_of

    _, found, _ = run
    pool = config().images.pool
    denoiser = denoiser_of(found["model-shapes-well"])
    again = generate(denoiser, Restart(pool.sampler, 4, 3), pool.plan(denoiser.shape, 0)).x
    labels = Shapes().label(again)
    cell = facts(found, "late_restart_from_t___100__3_passes")
    assert cell["level"] == 4
    assert cell["all"] == portrait(np.asarray(labels.rule), np.asarray(labels.counts_by_kind))
    visited = [t for t in np.linspace(0, 39, 20).round() if t < 4]
    assert cell["more_evaluations"] == pytest.approx(3 * (1 + len(visited)) / 20)


def test_a_stop_is_that_of_sample(run):
    """The same chains where none was stopped; it costs what is dropped, and what was asked."""
    import intermode
    from intermode.detect.bias import Bias
    from intermode.study.steps import denoiser_of, windows_known

    _, found, _ = run
    pool, denoiser = config().images.pool, denoiser_of(found["model-shapes-well"])
    windows = windows_known(found["shapes-well-windows"], denoiser).windows
    cell = facts(found, "early_stop_by_bias_20__stopped_where_the_critical_window_is_over")
    assert windows[-1].low - 3 < cell["t"] <= windows[-1].low  # 20 steps of 40
    stop = intermode.EarlyStop(Bias(window="critical"), cell["t"], share=0.2)
    again = intermode.sample(denoiser, 24, sampler=pool.sampler, stop=stop, detectors=(), chunk=8)
    labels = Shapes().label(again.x)
    assert cell["all"] == portrait(np.asarray(labels.rule), np.asarray(labels.counts_by_kind))
    assert cell["stopped"] == again.stopped.mean()
    assert cell["more_evaluations"] == pytest.approx((again.evaluations + again.scoring) / (24 * 20))
    plain = pool_of(found["shapes-well-pool"]).x
    assert torch.equal(again.x[~again.stopped], plain[~again.stopped])


def test_rows_hold_what_the_cells_found_and_figures_are_drawn(run):
    metrics, found, out = run
    assert not metrics["missing"]
    rows = {row["method"]: row for row in metrics["rows"]}
    assert set(rows) == {"ancestral", *METHODS}
    plain = facts(found, "ancestral")["all"]
    row = rows["ancestral"]
    assert (row["after"], row["after_low"], row["after_high"]) == share(plain["off"], 24).triple
    assert row["deformed"] == plain["rules"].get("deformed", 0) / 24
    assert row["tuned"] == "no"
    assert row["measured"] == "24 images"
    assert rows["resample by lid"]["tuned"] == "here"
    assert len(metrics["series"]["shapes-well"]) == len(page.treatments(config().images))
    assert any(note.startswith("shapes-well: off the support, of 24 images") for note in metrics["notes"])
    assert any("critical windows t = " in note for note in metrics["notes"])
    assert {claim["id"] for claim in metrics["claims"]} == {"shapes-repair"}
    assert matplotlib.image.imread(out / "figures" / "pareto.png").std() > 0.02


def test_every_treatment_is_another_job():
    full = Images()
    jobs = page.jobs_of(full, "well", 0)
    names = [treatment.key for treatment in page.treatments(full)]
    assert len(set(names)) == len(names)
    assert {f"shapes-well-{name}" for name in names} <= set(jobs)
    assert len({job.identity for job in jobs.values()}) == len(jobs)
    assert full.trained("under").shipped == "shapes-under"
