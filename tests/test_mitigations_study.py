"""The study of mitigations, smaller than its smoke tier: its cells against what is found another way, what it says
against its cells."""

import math
from functools import partial
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch

from intermode.errors import InputError
from intermode.evaluation import Estimate, ratio_of, share
from intermode.exact import off_support
from intermode.jobs import Store
from intermode.mitigate import Sharpened
from intermode.restart import Restart
from intermode.studies import find
from intermode.studies import mitigations as study
from intermode.studies.mitigation_cells import Correction, portrait
from intermode.studies.mitigation_images import Images
from intermode.studies.mitigations import METHODS, Config, Variant, change, divergence, every, subjects, variants
from intermode.study import Found, configured, reproduce
from intermode.study.steps import denoiser_of
from intermode.targets.gaussian import line

SETTINGS: dict[str, Any] = {
    **{"lattices": (), "other_line.train.steps": 400, "line.train.steps": 400, "images.models": ()},
}
"""They differ from the smoke tier in these."""
SHOWN = {
    *(("ancestral", ""), ("DDIM", ""), ("stochastic tail", "τ = 15, z = 8"), ("Laplacian sharpening", "0.5, t ≤ 20")),
    *(("late restart", "k = 3, 4 passes"), ("late restart", "k = 1, 10 passes")),
    *(("resample by hal", "98% kept"), ("resample by hal", "90% kept")),
    *(("selective repair by residual", "2 % flagged, k = 3"), ("stable-target training", "mean over 1,000 points")),
    *(("selective repair by residual", "0.5 % flagged, k = 3"), ("early stop by lid", "2 % stopped at t = 10")),
}
"""A few variants stand for all."""
WELL = ("1d-well", "1d-other-well")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of the well-trained models: metrics, jobs and folder."""
    out = tmp_path_factory.mktemp("runs") / "mitigations"
    of_all, all_subjects = study.every, study.subjects
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "every", lambda T: [v for v in of_all(T) if (v.method, v.settings) in SHOWN])
        patch.setattr(study, "subjects", lambda config: [s for s in all_subjects(config) if s.key in WELL])
        metrics = reproduce("mitigations", "smoke", out, settings=SETTINGS)
        found = Found(find("mitigations").jobs(config()), Store(out / "jobs"), {})
    return metrics, found, out


def config() -> Config:
    found: Config = configured(find("mitigations"), "smoke", SETTINGS)
    return found


def variant(method: str, settings: str) -> Variant:
    return next(v for v in every(60) if (v.method, v.settings) == (method, settings))


def facts(found, subject: str, method: str, settings: str = "", end: str = "") -> dict[str, Any]:
    return dict(found[f"{subject}-{variant(method, settings).key}{end}"].facts)


def test_a_portrait_of_points_counted_by_hand():
    target = line([0.0, 1.0], 0.05)
    x = np.array([[-0.05], [0.05], [0.95], [1.0], [1.05], [0.5], [3.0], [np.nan]])
    mass = np.array([0.2, 0.2, 0.1, 0.1, 0.1, 0.15, 0.05, 0.1])
    found = portrait(target, x, mass)
    assert found["value"] == pytest.approx(0.3)
    assert found["between"] == pytest.approx(0.15)
    assert found["weights"] == pytest.approx([4 / 7, 3 / 7])
    assert found["widths"] == pytest.approx([1.0, math.sqrt(2 / 3)])


def test_a_portrait_of_draws_of_the_target_is_the_targets():
    """30,000 of them: weights and widths within 6 standard errors."""
    n, target = 30_000, line([1, 2, 3], 0.05, [0.2, 0.5, 0.3])
    found = portrait(target, target.sample(n, 0).double().numpy(), np.full(n, 1 / n))
    for weight, width, true in zip(found["weights"], found["widths"], target.weights, strict=True):
        assert weight == pytest.approx(true, abs=6 * math.sqrt(true * (1 - true) / n))
        assert width == pytest.approx(1, abs=6 / math.sqrt(2 * true * n))
    assert found["value"] == 0


def test_divergence_and_change():
    assert divergence([0.5, 0.5], [0.25, 0.75]) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert divergence([1.0, 0.0], [1.0, 0.0]) == 0
    assert change([1.0, 0.8, 5.0], [1.0, 1.0, 0.0]) == pytest.approx(-0.2)
    assert change([1.3, 0.8], [1.0, 1.0]) == pytest.approx(0.3)


def test_exact_cells_are_off_support(run):
    """Which carries the whole chain, on other grids."""
    _, found, _ = run
    target = line()
    denoiser = denoiser_of(found["model-1d-well"])
    cells = {
        "plain": (facts(found, "1d-well", "ancestral"), denoiser, None),
        "restart": (facts(found, "1d-well", "late restart", "k = 3, 4 passes"), denoiser, Restart(level=3, passes=4)),
        "sharpened": (
            facts(found, "1d-well", "Laplacian sharpening", "0.5, t ≤ 20"),
            Sharpened(denoiser, 0.5, until=20),
            None,
        ),
    }
    for cell, of, sampler in cells.values():
        mass = off_support(of, target, sampler)
        assert cell["all"]["value"] == pytest.approx(mass.value, rel=1e-3)
        assert cell["all"]["between"] == pytest.approx(mass.between, rel=1e-3)
        assert cell["coarser"]["value"] == pytest.approx(mass.value, rel=0.02)
    assert len({cell["all"]["value"] for cell, _, _ in cells.values()}) == 3


def test_samples_agree_with_the_law(run):
    """2,000 of each model: within 6 standard errors."""
    _, found, _ = run
    for subject in ("1d-well", "1d-other-well"):
        exact = facts(found, subject, "ancestral")["all"]
        drawn = facts(found, subject, "ancestral", end="-drawn")
        p = exact["value"]
        assert drawn["all"]["value"] == pytest.approx(p, abs=6 * math.sqrt(p * (1 - p) / 2000))
        assert np.mean([drawn[half]["value"] for half in ("choose", "judge")]) == pytest.approx(drawn["all"]["value"])
        assert drawn["n"] == {"all": 2000, "choose": 1000, "judge": 1000}


def test_resampling_keeps_the_lowest_scores(run):
    _, found, _ = run
    cell = facts(found, "1d-well", "resample by hal", "90% kept")
    tensors = found["1d-well-ancestral-drawn"].tensors()
    kept = tensors["hal"].argsort()[: cell["n"]["all"]]
    bad = line().label(tensors["x"][kept]).hallucinated
    assert cell["n"]["all"] == 1800
    assert cell["all"]["value"] == pytest.approx(bad.mean())
    assert cell["thrown_away"] == pytest.approx(0.1)
    assert cell["more_evaluations"] == pytest.approx(1 / 9)


def test_an_early_stop_is_that_of_sample(run):
    """The same chains; from a table in place of the network, which changes little."""
    import intermode
    from intermode.detect.lid import LID

    _, found, _ = run
    cell = facts(found, "1d-other-well", "early stop by lid", "2 % stopped at t = 10")
    model = denoiser_of(found["model-1d-other-well"])
    stop = intermode.EarlyStop(LID(noises=4), 10, share=0.02)
    again = intermode.sample(model, 2000, stop=stop, detectors=(), seed=0, chunk=2000)
    assert cell["stopped"] == pytest.approx(again.stopped.mean(), abs=0.003)
    assert cell["all"]["value"] == pytest.approx(line([1, 2, 4]).label(again.x).hallucinated.mean(), abs=0.01)
    assert cell["more_evaluations"] == pytest.approx((again.evaluations + again.scoring) / 2000 / 60, rel=0.1)


def test_evaluations_are_counted(run):
    """Of 60: a passage of k + 1 for each restart, two more for a Laplacian in 1-D."""
    _, found, _ = run
    for method, settings, more in (
        ("ancestral", "", 0),
        ("late restart", "k = 3, 4 passes", 16),
        ("Laplacian sharpening", "0.5, t ≤ 20", 42),
        ("late restart", "k = 1, 10 passes", 20),
        ("stochastic tail", "τ = 15, z = 8", 0),
    ):
        assert facts(found, "1d-other-well", method, settings)["more_evaluations"] == pytest.approx(more / 60)


def test_rows_hold_what_the_cells_found(run):
    metrics, found, _ = run
    rows = {(row["target"], row["model"], row["method"]): row for row in metrics["rows"]}
    of = {
        s.key: partial(lambda *key: rows[key], s.model.target.words, s.trained)
        for s in subjects(config())
        if s.key in WELL
    }
    assert (
        len(rows) == len(metrics["rows"]) == 2 * 9
    )  # of sharpening, restart, tail, resampling, repair, stop, training, and what they are compared with
    for subject, own in of.items():
        row = own("late restart")
        after, before = facts(found, subject, "late restart", row["settings"]), facts(found, subject, "ancestral")
        assert row["after"] == after["all"]["value"]
        assert row["before_between"] == before["all"]["between"]
        error = abs(after["all"]["value"] - after["coarser"]["value"])
        assert row["after_high"] - row["after"] == pytest.approx(error)
        assert row["ratio"] == pytest.approx(before["all"]["value"] / after["all"]["value"])
        assert row["divergence"] == pytest.approx(divergence(after["all"]["weights"], before["all"]["weights"]))
        assert row["tuned"] == ("here" if subject == "1d-well" else "on another model")
        assert own("ancestral")["tuned"] == "no"
    row = of["1d-other-well"]("resample by hal")
    cell = facts(found, "1d-other-well", "resample by hal", row["settings"])
    counts = round(cell["all"]["value"] * cell["n"]["all"]), cell["n"]["all"]
    assert (row["after"], row["after_low"], row["after_high"]) == pytest.approx(share(*counts).triple)
    exact = facts(found, "1d-other-well", "ancestral")  # not as many samples of it
    mass, error = exact["all"]["value"], abs(exact["all"]["value"] - exact["coarser"]["value"])
    assert row["before"] == mass
    assert row["ratio_low"] == pytest.approx((mass - error) / share(*counts).high)
    # a half that had no say where it was chosen
    row = of["1d-well"]("resample by hal")
    assert row["measured"] == "1,000 samples"
    assert row["after"] == facts(found, "1d-well", "resample by hal", row["settings"])["judge"]["value"]
    # a tail is compared with DDIM
    row = of["1d-other-well"]("stochastic tail")
    assert row["before"] == pytest.approx(facts(found, "1d-other-well", "DDIM")["all"]["value"], rel=1e-12)


def test_stable_targets_train_another_network_on_the_same_data(run):
    """Compared with the same target's plain chain; the shipped sizes differ in nothing but the target."""
    metrics, found, _ = run
    cells = [
        facts(found, "1d-other-well", m, s)
        for m, s in (("stable-target training", "mean over 1,000 points"), ("ancestral", ""))
    ]
    assert cells[0]["all"]["value"] != cells[1]["all"]["value"]
    mass = off_support(denoiser_of(found["model-1d-other-well-stable"]), line([1, 2, 4]))
    assert cells[0]["all"]["value"] == pytest.approx(mass.value, rel=1e-3)
    row = next(r for r in metrics["rows"] if r["method"] == "stable-target training" and "4" in r["target"])
    assert (row["tuned"], row["measured"], row["before"]) == ("no", "exactly", cells[1]["all"]["value"])


def test_settings_are_those_that_leave_least_among_those_that_keep_weights_and_widths(monkeypatch):
    left = {"a": (0.3, True), "b": (0.1, False), "c": (0.2, True)}
    shown = [Variant("x", name) for name in left] + [Variant("y", "b")]

    def outcome(config, found, subject, variant, part):
        assert part == "choose"
        value, keeps = left[variant.settings]
        one = Estimate(value, value, value)
        width = Estimate(0.0 if keeps else 0.2, 0.0, 0.2)
        return study.Outcome(variant, one, one, one, one, None, None, Estimate(0.0, 0.0, 0.0), 1.0, width, {})

    monkeypatch.setattr(study, "variants", lambda config, subject: shown)
    monkeypatch.setattr(study, "outcome", outcome)
    chosen = study.chosen(None, None, None)
    assert {method: variant.settings for method, variant in chosen.items()} == {"x": "c", "y": "b"}


def test_claims_name_what_is_measured_and_the_figure_is_drawn(run):
    metrics, found, out = run
    assert metrics["missing"] == []
    assert {claim["id"] for claim in metrics["claims"]} == {
        f"{target}-{end}"
        for target in ("1d", "1d-other")
        for end in (
            "restart-ratio",
            "restart-evaluations",
            "restart-kl",
            "restart-width",
            "restart-least-ratio",
            "repair-ratio",
            "repair-evaluations",
            "rivals",
        )
    }
    settings = next(row["settings"] for row in metrics["rows"] if row["method"] == "late restart")
    after, before = facts(found, "1d-other-well", "late restart", settings), facts(found, "1d-other-well", "ancestral")
    expected = ratio_of(
        *(
            Estimate(v := each["all"]["between"], v - (e := abs(v - each["coarser"]["between"])), v + e)
            for each in (before, after)
        )
    )
    assert metrics["values"]["restart_1d_other_ratio"] == pytest.approx(expected.value)
    assert metrics["measures"]["restart_1d_other_ratio"]["low"] == pytest.approx(expected.low, rel=1e-6)
    exact = [facts(found, "1d-well", *of)["all"]["between"] for of in SHOWN if of[0] in ("late restart", "ancestral")]
    assert metrics["values"]["restart_1d_least_ratio"] == pytest.approx(max(exact) / min(exact))
    assert metrics["values"]["restart_1d_evaluations"] == pytest.approx(after["more_evaluations"])
    repaired = next(row for row in metrics["rows"] if row["method"] == "selective repair by residual")
    assert repaired["tuned"] == "here"
    mended = facts(found, "1d-other-well", "selective repair by residual", repaired["settings"])
    mass = facts(found, "1d-other-well", "ancestral")["all"]["value"]
    left = round(2000 * mended["all"]["value"])
    assert metrics["values"]["repair_1d_other_ratio"] == pytest.approx(mass / ((left + 0.5) / 2000.5))
    # three evaluations look at every sample, of a chain of 60
    expected = mended["more_evaluations"] - 3 / 60
    assert 0 < expected < 0.02
    assert metrics["values"]["repair_1d_other_evaluations"] == pytest.approx(expected)
    # where settings were chosen the other half judges
    cell = facts(found, "1d-well", "selective repair by residual", repaired["settings"])
    mass, left = facts(found, "1d-well", "ancestral")["all"]["value"], round(1000 * cell["judge"]["value"])
    assert metrics["values"]["repair_1d_ratio"] == pytest.approx(mass / ((left + 0.5) / 1000.5))
    assert set(metrics["figures"]) == {"pareto", "pareto-others"}
    assert matplotlib.image.imread(out / "figures" / "pareto.png").std() > 0.02
    report = (out / "report.html").read_text(encoding="utf-8")
    for row in metrics["rows"]:
        assert f"<td>{row['method']}</td>" in report


def test_every_variant_is_another_job():
    """On one model, and on each."""
    full = Config(lattices=("grid", "diamond"), lattice_methods=(), uneven_methods=(), images=Images(models=()))
    names = [variant.key for variant in every(1000)]
    assert len(set(names)) == len(names)
    jobs = find("mitigations").jobs(full)
    assert len({job.identity for job in jobs.values()}) == len(jobs)
    shown = {subject.key: len(variants(full, subject)) for subject in subjects(full)}
    stable = sum(any(v.stable for v in variants(full, subject)) for subject in subjects(full))
    assert stable == 5  # all in 1-D but the shipped one
    # a model and what is drawn of it, and one on stable targets
    assert len(jobs) == sum(shown.values()) + 2 * len(shown) + stable
    assert set(shown.values()) == {len(names), len(names) - 1}
    assert {variant.method for subject in subjects(full) for variant in variants(full, subject)} == set(METHODS)
    trained = {subject.key: subject.model for subject in subjects(full)}
    assert trained["2d-diamond-well"].shipped == trained["2d-diamond-well"].target.kind == "diamond"
    assert trained["2d-under"].shipped is None


@pytest.mark.parametrize("kind", ["sharpened", "guided", "score", "curvature", "quenched", "clipped"])
def test_corrections_are_what_they_are_called(kind, modes, network, schedule):
    from intermode.denoisers import NetworkDenoiser

    denoiser = NetworkDenoiser(network(1), schedule)
    corrected = Correction(kind, 0.7, 9).of(denoiser, modes)
    name = {"score": "Robust", "curvature": "Robust", "guided": "DynamicallyGuided"}.get(kind, kind.title())
    assert type(corrected).__name__ == name
    assert corrected.until == (None if kind == "clipped" else 9)
    assert 0.7 in vars(corrected).values() or kind == "clipped"
    x = torch.linspace(-4, 4, 9)[:, None]
    assert not torch.equal(corrected(x, 3), denoiser(x, 3))
    if kind == "clipped":
        assert (corrected.low, corrected.high) == pytest.approx((0.75, 3.25))
    if name == "Robust":
        assert corrected.along == kind


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "samples: 0 must be at least 1"),
        ({"level": 20}, "level: 20 must lie in 40..998"),
        ({"level": 999}, "level: 999 must lie in 40..998"),
        ({"lattices": ("hexagon",)}, "lattices: unknown 'hexagon'; choose from grid, diamond"),
        ({"line_methods": ("prayer",)}, "line_methods: unknown 'prayer'; choose from ancestral, Laplacian"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Config(**settings)
