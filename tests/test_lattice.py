"""Neighbours on the lattices: which kind of segment a sample lies near."""

import numpy as np
import pytest

from intermode.errors import InputError
from intermode.targets.lattice import LATTICES, near_neighbours, neighbours


@pytest.mark.parametrize("make", LATTICES.values(), ids=LATTICES)
def test_a_5_by_5_lattice_has_40_edges_and_32_diagonals(make):
    target = make()
    lengths = [
        np.linalg.norm(target.means[i] - target.means[j]) for order in (0, 1) for i, j in neighbours(target, order)
    ]
    np.testing.assert_allclose(lengths[:40], lengths[0])
    np.testing.assert_allclose(lengths[40:], lengths[0] * np.sqrt(2))
    assert len(lengths) == 72


@pytest.mark.parametrize("make", LATTICES.values(), ids=LATTICES)
@pytest.mark.parametrize("order", [0, 1])
def test_points_along_a_segment_are_of_its_kind(make, order):
    target = make()
    i, j = neighbours(target, order)[5]
    # a point at 35 % of the way: at the middle of a diagonal the other one crosses, on an edge's none is near
    point = target.means[i] + 0.35 * (target.means[j] - target.means[i])
    along = (target.means[j] - target.means[i]) / np.linalg.norm(target.means[j] - target.means[i])
    beside = np.array([-along[1], along[0]]) * target.sigma[0]
    kinds = near_neighbours(target, np.stack([point, point + 4.9 * beside, point - 4.9 * beside]))
    np.testing.assert_array_equal(kinds, order)


def test_only_what_is_within_reach_counts_and_the_closer_segment_wins():
    target = LATTICES["grid"]()
    sigma, spacing = target.sigma[0], np.linalg.norm(target.means[1] - target.means[0])
    corner = target.means[0]
    edge_middle = corner + np.array([0.0, spacing / 2])
    away = edge_middle - [5.1 * sigma, 0]  # outside the lattice: no diagonal there
    near_mode = (
        corner + np.array([np.cos(0.2), np.sin(0.2)]) * 6.5 * sigma
    )  # 11 degrees from an edge, 34 from a diagonal
    steep = corner + np.array([np.cos(0.7), np.sin(0.7)]) * 6.5 * sigma  # 5 degrees from the diagonal
    np.testing.assert_array_equal(
        near_neighbours(target, np.stack([edge_middle, away, near_mode, steep])), [0, -1, 0, 1]
    )


@pytest.mark.parametrize("side", [1, 2.5, "five"])
def test_a_lattice_needs_two_modes_along_a_side(side):
    with pytest.raises(InputError, match=f"side: {side!r} must be a whole number, at least 2"):
        LATTICES["grid"](side)
