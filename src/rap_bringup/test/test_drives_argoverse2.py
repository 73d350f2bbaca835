from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather

from rap_bringup.drives.argoverse2 import read_argoverse2
from rap_bringup.drives.recorded_drive import DriveError
from rap_raster.scene import LineKind, ObjectClass, PolygonKind

LOG = "3b3570b4-7b0b-3268-a571-b0889dbf40b6"


@pytest.fixture(scope="module")
def drive(real_data):
    return read_argoverse2(real_data / "argoverse2" / LOG)


@pytest.mark.data
def test_vehicles_stand_on_the_ground_near_the_ego(drive):
    """The ego frame is at axle height; with it taken off, wheels touch z = 0."""
    bottoms = []
    for step in drive.objects:
        ego = min(drive.ego, key=lambda state, stamp=step.stamp_ns: abs(state.stamp_ns - stamp))
        boxes = step.boxes
        near = np.hypot(*(boxes.centers_m[:, :2] - [ego.x_m, ego.y_m]).T) < 20
        near &= boxes.classes == ObjectClass.VEHICLE
        bottoms += list(boxes.centers_m[near, 2] - 0.5 * boxes.sizes_m[near, 2])
    assert len(bottoms) > 100
    assert abs(np.median(bottoms)) < 0.15


@pytest.mark.data
def test_parked_vehicles_stay_where_they_are(drive):
    """Boxes are given in the moving ego frame, so a wrong pose would make parked cars move.

    Annotations of standing cars jitter by up to 2 m over 15 s; the ego moves 40 m.
    """
    places: dict[int, list] = {}
    for step in drive.objects:
        boxes = step.boxes
        for index in np.flatnonzero(boxes.classes == ObjectClass.VEHICLE):
            places.setdefault(int(boxes.ids[index]), []).append(boxes.centers_m[index, :2])
    long_seen = [np.array(seen) for seen in places.values() if len(seen) > 100]
    parked = [seen for seen in long_seen if np.ptp(seen, axis=0).max() < 2.0]
    first, last = drive.ego[0], drive.ego[-1]
    assert np.hypot(last.x_m - first.x_m, last.y_m - first.y_m) > 20
    assert len(parked) > 20


@pytest.mark.data
def test_ego_is_not_among_the_objects_and_follows_its_route(drive):
    for step in drive.objects[::10]:
        ego = min(drive.ego, key=lambda state, stamp=step.stamp_ns: abs(state.stamp_ns - stamp))
        offsets = step.boxes.centers_m[:, :2] - [ego.x_m, ego.y_m]
        assert np.linalg.norm(offsets, axis=1).min() > 1.5
    nearest = [
        np.linalg.norm(drive.route_m[:, :2] - [state.x_m, state.y_m], axis=1).min()
        for state in drive.ego[::50]
    ]
    assert np.median(nearest) < 1.5


@pytest.mark.data
def test_map_has_paint_edges_and_crosswalks(drive):
    kinds = set(drive.map.polylines.kinds)
    assert {LineKind.LANE_BOUNDARY, LineKind.LANE_DIVIDER, LineKind.ROAD_BOUNDARY} <= kinds
    assert {PolygonKind.DRIVABLE, PolygonKind.CROSSWALK} <= set(drive.map.polygons.kinds)


def write_log(folder, *, drop_column=None, drop_key=None):
    """A straight lane, one ego moving at 10 m/s, one car standing at x = 20."""
    stamps = np.arange(0, 4) * 100_000_000 + 10**9
    count = len(stamps)
    upright = {"qw": np.ones(count), "qx": np.zeros(count), "qy": np.zeros(count)}
    upright["qz"] = np.zeros(count)
    ego_x = 10.0 * np.arange(count) * 0.1
    poses = {"timestamp_ns": stamps, **upright, "tx_m": ego_x, "ty_m": np.zeros(count)}
    boxes = {
        "timestamp_ns": stamps,
        "track_uuid": ["car"] * count,
        "category": ["REGULAR_VEHICLE"] * count,
        "length_m": np.full(count, 4.5),
        "width_m": np.full(count, 1.9),
        "height_m": np.full(count, 1.6),
        **upright,
        "tx_m": 20.0 - ego_x,
        "ty_m": np.zeros(count),
        "tz_m": np.full(count, 0.47),
    }
    boxes.pop(drop_column, None)
    left = [{"x": x, "y": 2.0, "z": 5.0} for x in (-10, 60)]
    right = [{"x": x, "y": -2.0, "z": 5.0} for x in (-10, 60)]
    segment = {
        "id": 1,
        "is_intersection": False,
        "lane_type": "VEHICLE",
        "left_lane_boundary": left,
        "left_lane_mark_type": "SOLID_YELLOW",
        "right_lane_boundary": right,
        "right_lane_mark_type": "NONE",
        "successors": [],
        "predecessors": [],
        "right_neighbor_id": None,
        "left_neighbor_id": 2,
    }
    segment.pop(drop_key, None)
    content = {
        "lane_segments": {"1": segment},
        "drivable_areas": {"5": {"id": 5, "area_boundary": [*left, *right[::-1]]}},
        "pedestrian_crossings": {},
    }
    (folder / "map").mkdir(parents=True)
    feather.write_feather(pa.table(poses), folder / "city_SE3_egovehicle.feather")
    feather.write_feather(pa.table(boxes), folder / "annotations.feather")
    (folder / "map" / "log_map_archive_x.json").write_text(json.dumps(content))
    return folder


def test_a_standing_car_stands_in_the_map_and_the_ego_drives(tmp_path):
    drive = read_argoverse2(write_log(tmp_path / "log"))
    for step in drive.objects:
        np.testing.assert_allclose(step.boxes.centers_m, [[20.0, 0.0, 0.8]], atol=1e-9)
    np.testing.assert_allclose(drive.objects[-1].boxes.velocities_mps, 0.0, atol=1e-9)
    assert drive.ego[-1].vx_mps == pytest.approx(10.0)
    assert drive.map.lanes["1"].left_neighbor is None
    np.testing.assert_allclose(drive.map.lanes["1"].centerline_m[:, 1:], 0.0, atol=1e-9)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DriveError, match=r"annotations\.feather: column track_uuid is missing"):
        read_argoverse2(write_log(tmp_path / "a", drop_column="track_uuid"))
    with pytest.raises(DriveError, match=r"x\.json: field 'lane_type' is missing"):
        read_argoverse2(write_log(tmp_path / "b", drop_key="lane_type"))
    log = write_log(tmp_path / "c")
    (log / "annotations.feather").write_bytes(b"not arrow")
    with pytest.raises(DriveError, match=r"annotations\.feather: cannot be read"):
        read_argoverse2(log)
    (log / "annotations.feather").unlink()
    with pytest.raises(DriveError, match=r"no annotations\*\.feather in it"):
        read_argoverse2(log)
    with pytest.raises(DriveError, match="not an Argoverse 2 log folder"):
        read_argoverse2(tmp_path / "none")
