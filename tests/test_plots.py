"""Figures say what was found, in numbers of their own, and one thing has one colour."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from intermode import plots, style
from intermode.detect.registry import DETECTORS

SRGB_TO_LMS = np.array([[0.31399, 0.63951, 0.04650], [0.15537, 0.75789, 0.08670], [0.01775, 0.10945, 0.87257]])
DEUTERANOPE = np.array([[1, 0, 0], [0.9513092, 0, 0.04866992], [0, 0, 1]])
PROTANOPE = np.array([[0, 1.05118294, -0.05116099], [0, 1, 0], [0, 0, 1]])


def seen(colour, eye):
    """sRGB as somebody without one kind of cones sees it (Viénot, Brettel & Mollon 1999)."""
    linear = np.array(to_rgb(colour)) ** 2.2
    back = np.linalg.inv(SRGB_TO_LMS) @ eye @ SRGB_TO_LMS @ linear
    return back.clip(0, 1) ** (1 / 2.2)


@pytest.mark.parametrize("eye", [np.eye(3), DEUTERANOPE, PROTANOPE])
def test_colours_differ_to_every_eye(eye):
    """Red and green of equal brightness would not: they come to 0.1 and less."""
    for a, b in itertools.combinations((style.GOOD, style.BAD, style.TRUE, style.LEARNED, style.MENDED), 2):
        assert np.linalg.norm(seen(a, eye) - seen(b, eye)) > 0.12, (a, b)


def test_every_detector_has_one_look_wherever_it_is_drawn_and_whatever_stands_beside_it():
    assert set(DETECTORS) <= set(style.KNOWN)
    looks = [style.KNOWN[name] for name in DETECTORS]
    assert len(set(looks)) == len(looks)
    alone, together = style.colours_of(["lid"]), style.colours_of(["mine", "hal", "lid", "random"])
    assert alone["lid"] == together["lid"]


def test_what_has_no_look_gets_a_free_one():
    names = ["hal", "residual", *(f"own {k}" for k in range(20))]
    looks = [tuple(look.values()) for look in style.colours_of(names).values()]
    assert len(set(looks)) == len(names)
    many = style.colours_of([f"own {k}" for k in range(40)])  # more than there are looks
    assert len(many) == 40
    assert many["own 39"] in [many[f"own {k}"] for k in range(39)]


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """The titles of a figure that a function draws, in one text; nothing is written."""
    figures = []
    monkeypatch.setattr(style, "save", lambda figure, path: figures.append(figure))

    def draw(function, *args, **settings):
        function(tmp_path / "figure.png", *args, **settings)
        (figure,) = figures[-1:]
        titles = [axes.get_title(loc) for axes in figure.axes for loc in ("left", "center")]
        titles += [figure.get_suptitle(), *(axes.get_xlabel() for axes in figure.axes)]
        return "\n".join(title for title in titles if title)

    return draw


def test_a_density_says_how_much_lies_off_the_support(drawn):
    edges = np.linspace(0, 1, 11)
    density = np.full(10, 1.0)
    off = np.arange(10) < 2
    text = drawn(plots.log_density, edges, density, edges, np.ones(11), off, title="ten bins")
    assert "ten bins: 0.2 of the samples lie off the support" in text


def test_a_scatter_counts(drawn):
    x = np.random.default_rng(0).normal(size=(50, 2))
    assert "7 of 50 samples lie off the support" in drawn(plots.scatter, x, x, np.arange(50) < 7)


def test_a_histogram_says_what_the_cut_does(drawn):
    scores, bad = np.arange(1.0, 101), np.arange(100) >= 90
    text = drawn(plots.score_histogram, scores, bad, {"removes 80 %": 92.0}, "hal")
    assert "The cut that removes 80 % keeps 100 % of the others" in text
    assert "and 100 % of what it removes is" in text


def test_trajectories_say_how_much_each_kind_varies(drawn):
    t = np.arange(9, -1, -1)
    bad, good = np.where(t % 2, 1.0, -1.0)[:, None], np.zeros((10, 3))
    assert "varies by 1, of others by 0" in drawn(plots.trajectories, t, bad, good, (0, 9))


def test_curves_say_where_they_end_or_what_is_best(drawn):
    lines = {"hal": ([0.5, 0.25], [0.4, 0.2], [0.6, 0.3]), "random": ([0.5, 0.75], [0.4, 0.7], [0.6, 0.8])}
    text = drawn(plots.curves, [0, 5], lines, x_label="generation", y_label="rate")
    assert "At generation 5: hal 0.25, random 0.75" in text
    one = {"rate": lines["random"]}
    assert "From 0.5 at step 1 to 0.75 at 9" in drawn(plots.curves, [1, 9], one, x_label="step", y_label="y")
    named = drawn(plots.curves, [1, 9], one, x_label="window", y_label="y", ticks=["0\n5", "0\n9"])
    assert "rate is highest, 0.75 [0.7, 0.8], at 0 to 9" in named
    assert "Mine" in drawn(plots.curves, [1, 9], one, x_label="step", y_label="y", title="Mine")
    holes = {"a": ([0.5, np.nan],) * 3, "b": ([0.1, 0.2],) * 3}
    assert "At step 9: b 0.2" in drawn(plots.curves, [1, 9], holes, x_label="step", y_label="y")


def test_detectors_are_ranked_by_their_curves(drawn):
    lost = np.array([0.0, 0.5, 1.0])
    curves = {"shapes": {"hal": (lost, lost), "lid": (lost, np.array([0.0, 1.0, 1.0]))}}
    assert "highest AUROC: lid, 0.750" in drawn(plots.roc, curves)
    points = {"shapes": {"hal": (0, 0.3), "lid": (32, 0.1)}}
    assert "best: lid, 0.1 at 32 evaluations" in drawn(plots.cost_quality, points)


def test_points_say_how_far_their_ranks_agree(drawn):
    points = {"a": ([1, 2, 3], [1, 2, 3]), "b": ([4.0], [4.0])}
    text = drawn(plots.points_by_kind, points, x_label="x", y_label="y")
    assert "4 models, rank correlation 1.00" in text


def test_a_loss_says_how_far_it_fell(drawn):
    assert "The loss falls from 2 to 0.5 in 1,000 steps" in drawn(plots.loss, 1000, np.array([2.0, 1.0, 0.5]))
