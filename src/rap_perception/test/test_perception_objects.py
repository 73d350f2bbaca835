from __future__ import annotations

import numpy as np
import pytest

from rap_perception.objects import ObjectsError, checked_objects, placed
from rap_raster.frames import Pose


def columns(count: int = 2, lights: int = 1, **changes):
    table = {
        "ids": np.arange(1, count + 1, dtype=np.int32),
        "classes": np.ones(count, np.uint8),
        "centers": np.arange(3 * count, dtype=np.float64),
        "sizes": np.full(3 * count, 2.0, np.float32),
        "yaws": np.zeros(count, np.float32),
        "velocities": np.full(2 * count, np.nan, np.float32),
        "ages_s": np.zeros(count, np.float32),
        "existences": np.ones(count, np.float32),
        "light_states": np.full(lights, 30, np.uint8),
        "light_centers": np.zeros(3 * lights),
        "light_sizes": np.full(3 * lights, 0.5, np.float32),
        "light_yaws": np.zeros(lights, np.float32),
    }
    return table | changes


def test_arrays_become_boxes_and_lights():
    objects, _ = checked_objects(7, columns())
    assert objects.stamp_ns == 7
    np.testing.assert_array_equal(objects.boxes.centers_m, [[0, 1, 2], [3, 4, 5]])
    assert np.isnan(objects.boxes.velocities_mps).all()
    assert len(objects.lights) == 1


def test_no_objects_are_valid_objects():
    """An empty road is not the same as an unknown one."""
    objects, _ = checked_objects(7, columns(0, 0))
    assert len(objects.boxes) == 0


def test_objects_move_on_at_their_velocity_and_stay_where_it_is_unknown():
    velocities = np.array([10.0, -2.0, np.nan, np.nan], np.float32)
    objects, _ = checked_objects(0, columns(velocities=velocities))
    moved = objects.boxes_at(100_000_000)
    np.testing.assert_allclose(moved.centers_m, [[1.0, 0.8, 2.0], [3.0, 4.0, 5.0]])
    np.testing.assert_allclose(objects.boxes.centers_m[0], [0, 1, 2])


def test_objects_of_the_ego_frame_are_placed_by_the_pose():
    """The ego stands at (100, 50) and looks along +y: ahead becomes north, left becomes west."""
    centers = np.array([10.0, 0.0, 1.0, 0.0, 5.0, 1.0])
    velocities = np.array([3.0, 0.0, np.nan, np.nan], np.float32)
    seen, _ = checked_objects(7, columns(centers=centers, velocities=velocities))
    objects = placed(seen, Pose(100.0, 50.0, 2.0, np.pi / 2))
    np.testing.assert_allclose(objects.boxes.centers_m, [[100, 60, 3], [95, 50, 3]], atol=1e-9)
    np.testing.assert_allclose(objects.boxes.velocities_mps[0], [0, 3], atol=1e-9)
    assert np.isnan(objects.boxes.velocities_mps[1]).all()
    np.testing.assert_allclose(objects.boxes.yaws_rad, np.pi / 2)
    np.testing.assert_allclose(objects.lights.centers_m, [[100, 50, 2]])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"yaws": np.zeros(3, np.float32)}, "yaws: 3 values, expected 2"),
        ({"centers": np.zeros(5)}, "centers: 5 values, expected 6"),
        ({"light_yaws": np.zeros(0)}, "light_yaws: 0 values, expected 1"),
        ({"sizes": np.zeros(6)}, "sizes[0]: is 0.0, expected > 0"),
    ],
)
def test_a_message_with_no_usable_object_is_refused_with_field_index_and_value(changes, expected):
    """To leave all objects out would claim an empty road."""
    with pytest.raises(ObjectsError) as caught:
        checked_objects(0, columns(**changes))
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("field", "bad", "expected"),
    [
        ("centers", [0, 0, 0, 0, np.inf, 0.0], "centers[4]: is inf, expected a finite"),
        ("centers", [0, 0, 0, 1e30, 0, 0], "centers[3]: is 1e+30, expected -1e+08"),
        ("sizes", [2, 2, 2, 2, 0, 2.0], "sizes[4]: is 0.0, expected > 0"),
        ("yaws", [0, np.nan], "yaws[1]: is nan, expected a finite"),
        ("velocities", [0, 0, 0, np.inf], "velocities[3]: is inf, expected a finite"),
        ("ages_s", [0, np.nan], "ages_s[1]: is nan"),
        ("ages_s", [0, -1.0], "ages_s[1]: is -1.0, expected 0 to inf"),
        ("existences", [1, 1.5], "existences[1]: is 1.5, expected 0 to 1"),
        ("classes", [1, 10], "classes[1]: is 10, expected one of vehicle"),
        ("ids", [1, 0], "ids[1]: is 0, expected 1 to 2147483647"),
        ("ids", [1, 2**31], "ids[1]: is 2147483648, expected 1 to 2147483647"),
        ("ids", [1, 1], "ids[1]: is 1, expected no id twice"),
    ],
)
def test_a_malformed_object_is_left_out_and_the_others_stay(field, bad, expected):
    objects, problem = checked_objects(0, columns(**{field: np.array(bad)}))
    assert problem.startswith(expected)
    assert problem.endswith("; left out 1 of 2 objects")
    alone, _ = checked_objects(0, columns(1))
    for name in ("ids", "classes", "sizes_m", "yaws_rad"):
        np.testing.assert_array_equal(getattr(objects.boxes, name), getattr(alone.boxes, name))
    assert objects.ages_s.tolist() == [0.0]
    assert objects.existences.tolist() == [1.0]
    assert len(objects.lights) == 1


@pytest.mark.parametrize(
    ("field", "bad", "expected"),
    [
        ("light_states", [30, 3], "light_states[1]: is 3, expected one of red"),
        ("light_yaws", [0, np.nan], "light_yaws[1]: is nan, expected a finite"),
        ("light_sizes", [1, 1, 1, 0, 1, 1], "light_sizes[3]: is 0, expected > 0"),
    ],
)
def test_a_malformed_light_is_left_out_and_all_else_stays(field, bad, expected):
    objects, problem = checked_objects(0, columns(lights=2, **{field: np.array(bad)}))
    assert problem.startswith(expected)
    assert (len(objects.boxes), len(objects.lights)) == (2, 1)
