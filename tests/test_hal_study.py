"""Choosing a window: on one half, judged on the other."""

import numpy as np

from intermode.evaluation import detection
from intermode.study.configs import LinearNoise, LineModel, Pool
from intermode.study.hal import Judged, choosing_half, compare


def scores_of(n=400):
    rng = np.random.default_rng(0)
    bad = rng.random(n) < 0.3
    signal = bad * 2.0 + rng.standard_normal(n)
    noise = rng.standard_normal(n)
    choose = choosing_half(n)
    # good where the window is chosen, useless where it is judged: what an honest judgement must show
    lucky = np.where(choose, signal + 5 * bad, noise)
    return bad, {"hal": signal, "hal-0-5": signal, "hal-0-9": lucky}


def test_the_best_is_chosen_on_one_half_and_judged_on_the_other():
    bad, scores = scores_of()
    found = compare(scores, bad, 0, "removed_at_95_kept")
    assert list(found.judged) == [(0, 5), (0, 9)]  # the detector named hal has no window to compare
    assert found.best == (0, 9)
    judge = ~choosing_half(len(bad))
    for end in (5, 9):
        assert found.judged[0, end] == detection(scores[f"hal-0-{end}"][judge], bad[judge], seed=0)
    assert found.judged[0, 9].auroc.value < 0.65  # luck on the choosing half has not leaked into the judgement


def test_too_few_of_a_class_in_a_half_are_not_judged():
    bad = np.zeros(50, dtype=bool)
    bad[[1, 3, 5, 6]] = True  # only one in the choosing half
    assert compare({"hal-0-5": np.arange(50.0)}, bad, 0, "auroc") is None


def test_windows_end_inside_the_schedule():
    config = Judged(LineModel(noise=LinearNoise(30)), Pool(), (0, 9))
    found = config.detectors([(0, 5), (7, 29), (0, 30)])
    named = [(d.window.low, d.window.high, d.name) for d in found]
    assert named == [(0, 9, "hal"), (0, 5, "hal-0-5"), (7, 29, "hal-7-29")]
