"""What of the support of Simple Shapes images hold: read rightly, counted exactly, with intervals that hold."""

from itertools import combinations

import numpy as np
import pytest

from intermode.errors import InputError
from intermode.targets.shape_places import SIZES, contents, coverage, coverage_of_data
from intermode.targets.shape_support import COLUMN, KINDS, places
from intermode.targets.shapes import Shapes

TARGET = Shapes(keep_blank=True)


def test_contents_of_the_data_are_those_that_were_drawn():
    x = TARGET.sample(200, 1)
    near, true = TARGET.nearest(x), set()
    for image, kind in zip(*np.nonzero(near.present), strict=True):
        across = near.column[image, kind] - kind * COLUMN
        true.add((image, sum(SIZES[:kind]) + near.row[image, kind] * places(KINDS[kind])[1] + across))
    found = contents(TARGET.label(x))
    assert len(found) > 200
    assert set(map(tuple, found.tolist())) == true


def test_what_is_no_shape_of_its_column_holds_nothing_and_two_of_a_kind_hold_two():
    x = TARGET.images(400, 1)
    alone = next(
        image for image, found in zip(x, TARGET.nearest(x).present, strict=True) if found.tolist() == [1, 0, 0]
    )
    rows, columns = np.nonzero(alone)
    elsewhere = np.roll(alone, (30 if rows.min() < 30 else -30), axis=0)
    astray = np.roll(alone, 30 - columns.min(), axis=1)
    torn = alone.copy()
    torn[rows.min() : rows.min() + 5] = 0
    pairs = contents(TARGET.label(np.stack([alone, alone | elsewhere, astray, torn, 0 * alone])))
    assert np.bincount(pairs[:, 0], minlength=5).tolist() == [1, 2, 0, 0, 0]
    assert pairs[0, 1] in pairs[1:, 1]


def test_coverage_is_the_mean_over_all_choices_of_images():
    pairs = np.array([(0, 5), (0, 900), (1, 5), (2, 5), (2, 7), (4, 1952)])
    for n in (1, 2, 3, 4):
        seen = [len(set(pairs[np.isin(pairs[:, 0], chosen), 1])) for chosen in combinations(range(5), n)]
        assert coverage(pairs, 5, n).value == pytest.approx(np.mean(seen) / SIZES.sum(), rel=1e-9)
    assert coverage(np.empty((0, 2), dtype=int), 5, 2).triple == (0, 0, 0)
    for n in (0, 5):
        with pytest.raises(InputError, match=rf"n: {n} is outside 1\.\.4"):
            coverage(pairs, 5, n)


def test_intervals_hold_what_the_data_covers():
    rng, found = np.random.default_rng(0), []
    for _ in range(100):
        parts = []
        for kind in range(3):
            image = np.flatnonzero(rng.random(600) < TARGET.presence)
            parts.append(np.stack([image, SIZES[:kind].sum() + rng.integers(0, SIZES[kind], len(image))], 1))
        found.append(coverage(np.concatenate(parts), 600, 512))
    true = coverage_of_data(TARGET.presence, 512)
    assert np.mean([one.value for one in found]) == pytest.approx(true, abs=0.003)
    assert np.mean([one.low <= true <= one.high for one in found]) >= 0.93
    spread = np.std([one.value for one in found])
    assert np.mean([one.high - one.value for one in found]) / 1.96 == pytest.approx(spread, rel=0.35)
