from __future__ import annotations

import numpy as np
import pytest

from rap_raster.maps.vector_map import ShapeIndex, height_above, shapes_near
from rap_raster.scene import Shapes


def random_shapes(rng: np.random.Generator) -> list[tuple[int, np.ndarray]]:
    return [
        (int(rng.integers(10, 15)), rng.uniform(-300, 300, 3) + rng.normal(0, 9, (n, 3)))
        for n in rng.integers(2, 30, 200)
    ]


def test_a_crop_keeps_exactly_the_shapes_whose_box_comes_near():
    rng = np.random.default_rng(0)
    shapes = random_shapes(rng)
    index = ShapeIndex(Shapes.from_list(shapes))
    for center in rng.uniform(-300, 300, (20, 2)):
        low, high = center - 80.0, center + 80.0
        wanted = [
            (kind, points)
            for kind, points in shapes
            if (points[:, :2].min(0) <= high).all() and (points[:, :2].max(0) >= low).all()
        ]
        found = index.near(center, 80.0)
        assert 0 < len(wanted) < len(shapes)
        assert found.kinds.tolist() == [kind for kind, _ in wanted]
        for number, (_, points) in enumerate(wanted):
            np.testing.assert_array_equal(found[number], points)


def test_cropping_nothing_gives_nothing():
    assert len(shapes_near(Shapes.from_list([]), np.zeros(2), 10.0)) == 0


def test_a_crop_without_hits_is_empty_and_well_formed():
    shapes = Shapes.from_list([(10, [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])])
    found = shapes_near(shapes, np.array([500.0, 0.0]), 10.0)
    assert len(found) == 0
    assert found.offsets.tolist() == [0]


def test_the_height_above_a_map_is_that_above_the_nearest_level_wherever_its_points_are():
    """A straight road keeps its ends alone; a bridge crosses it 6 m up; both rise by 1 in 100."""
    road = np.array([(0.0, 0.0, 10.0), (200.0, 0.0, 12.0)])
    bridge = np.array([(110.0, -50.0, 17.0), (110.0, 50.0, 17.0)])
    shapes = Shapes.from_list([(10, road), (10, bridge)])
    assert height_above(shapes, np.array([100.0, 3.0, 11.0])) == pytest.approx(0.0)
    assert height_above(shapes, np.array([110.0, 3.0, 17.5])) == pytest.approx(0.5)
    assert height_above(shapes, np.array([50.0, 3.0, -29.5])) == pytest.approx(-40.0)
    assert height_above(shapes, np.array([50.0, 30.0, 10.0])) is None
    assert height_above(Shapes.from_list([]), np.zeros(3)) is None
