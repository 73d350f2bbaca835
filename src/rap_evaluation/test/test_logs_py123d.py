from __future__ import annotations

import importlib.util
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from rap_evaluation.logs.drive_log import DriveLog, LogError
from rap_evaluation.logs.log_writer import write_log
from rap_evaluation.logs.msgpack_values import packed, unpacked
from rap_evaluation.logs.py123d_files import LABELS
from rap_evaluation.logs.py123d_labels import LABEL_CLASSES
from rap_evaluation.logs.py123d_map import read_py123d_map
from rap_evaluation.logs.py123d_reader import read_py123d
from rap_evaluation.logs.recording import UNSEEN_LIGHT, LightTracks, Recording, Tracks
from rap_raster.maps.opendrive import load_opendrive
from rap_raster.maps.routing import LaneMatcher
from rap_raster.maps.vector_map import Lane, VectorMap
from rap_raster.scene import LightState, LineKind, ObjectClass, PolygonKind, Shapes

# py123d's own writers and readers are the reference. Their modules import packages that py123d
# needs for other things, such as point clouds; empty modules take the place of those.
STAND_INS = ("pandas", "cachetools", "DracoPy", "laspy", "tqdm")


class StandIn(types.ModuleType):
    """A module that has any name; its cache never forgets."""

    class LRUCache(dict):
        def __init__(self, maxsize):
            super().__init__()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return dict


@pytest.fixture(scope="module")
def py123d():
    """Modules of py123d by short names."""
    if importlib.util.find_spec("py123d") is None:
        pytest.skip("py123d is not installed: run make setup")
    missing = [name for name in STAND_INS if importlib.util.find_spec(name) is None]
    for name in missing:
        sys.modules[name] = StandIn(name)
    try:
        from py123d import datatypes, geometry  # noqa: PLC0415
        from py123d.api.map.arrow import arrow_map_api, arrow_map_writer  # noqa: PLC0415
        from py123d.api.scene.arrow import arrow_log_writer  # noqa: PLC0415
        from py123d.datatypes.detections.box_detection_label import (  # noqa: PLC0415
            BOX_DETECTION_LABEL_REGISTRY,
        )
        from py123d.parser import base_dataset_parser, registry  # noqa: PLC0415
        from py123d.parser.opendrive import opendrive_map_parser  # noqa: PLC0415
        from py123d.parser.truckdrive import truckdrive_labels  # noqa: F401, PLC0415
    finally:
        for name in missing:
            del sys.modules[name]
    return types.SimpleNamespace(
        datatypes=datatypes,
        geometry=geometry,
        map_api=arrow_map_api,
        map_writer=arrow_map_writer,
        log_writer=arrow_log_writer,
        labels=BOX_DETECTION_LABEL_REGISTRY,
        parsers=base_dataset_parser,
        registry=registry,
        opendrive=opendrive_map_parser,
    )


# Packed values.


def test_an_array_is_what_py123d_packs():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    packed_array = {b"__ndarray__": True, b"data": array.tobytes(), b"dtype": array.dtype.str,
                    b"shape": [2, 3]}  # fmt: skip
    found = unpacked(packed({"line": packed_array, "id": 2**40}))
    assert found["id"] == 2**40
    np.testing.assert_array_equal(found["line"], array)


@given(st.binary(max_size=40))
def test_damaged_values_are_refused(data):
    try:
        unpacked(data)
    except ValueError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017 - or it is a value


def test_deep_nesting_is_refused():
    with pytest.raises(ValueError, match="not msgpack"):
        unpacked(b"\x91" * 10_000 + b"\xc0")


# Labels.


def test_all_labels_of_py123d_are_known(py123d):
    """Names in the order of numbers, as in py123d's registry; and a coarse class that agrees.

    Coarse classes are py123d's own defaults, except for those that it calls something else:
    rolling chairs, trams and the like.
    """
    assert set(LABEL_CLASSES) == set(py123d.labels)
    odd = []
    for name, labels in LABEL_CLASSES.items():
        enum = py123d.labels[name]
        assert {label: number for number, label in enumerate(labels)} == {
            member.name: int(member) for member in enum
        }
        odd += [
            (label, found.name if found else None, enum[label].to_default().name)
            for label, found in labels.items()
            if found not in (None, ObjectClass.GENERIC)
            and LABELS[found] != int(enum[label].to_default())
        ]
    coarse = {default for _, _, default in odd}
    assert coarse <= {"OTHER", "GENERIC_OBJECT", "PERSON", "TWO_WHEELER", "VEHICLE", "BARRIER"}
    assert not [row for row in odd if row[1] in ("VEHICLE", "TRUCK", "BUS")]


# Logs that we wrote.


def street():
    lane = Lane("a", np.array([[0.0, 0, 0], [200, 0, 0]]))
    return VectorMap("street", Shapes.from_list([]), Shapes.from_list([]), {"a": lane})


def wavy(first, last, x, y, speed):
    """A track that weaves; box centre velocities are those of its places."""
    time = np.arange(last - first + 1) * 0.1
    place = np.column_stack([x + speed * time, y + np.sin(0.5 * time), 0.25 + 0.02 * time])
    velocity = np.gradient(place[:, :2], 0.1, axis=0)
    yaw = np.arctan2(0.5 * np.cos(0.5 * time), speed)
    return np.column_stack([place, yaw, velocity, np.gradient(yaw, 0.1)])


def recording():
    states = [wavy(0, 49, 0, 0, 8), wavy(10, 39, 30, 4, 5), wavy(0, 49, 20, -6, 1)]
    tracks = Tracks(
        ids=np.array([7, 9, 4], np.int32),
        source_ids=np.array([7, 9, 4]),
        classes=np.array(
            [ObjectClass.VEHICLE, ObjectClass.VEHICLE, ObjectClass.PEDESTRIAN], np.uint8
        ),
        sizes_m=np.array([[5.0, 2, 1.6], [8, 2.5, 3], [0.5, 0.6, 1.8]]),
        rear_axles_m=np.array([1.4, 2.4, 0.1]),
        first_steps=np.array([0, 10, 0], np.int32),
        last_steps=np.array([49, 39, 49], np.int32),
        states=np.concatenate(states),
        observed=np.ones(50 + 30 + 50, dtype=bool),
    )
    lights = LightTracks(
        ("a",), np.array([[8.0, 0, 5.5]]), np.ones((1, 3)), np.array([np.pi]),
        np.full((50, 1), LightState.RED, np.uint8),
    )  # fmt: skip
    stamps = 1_000_000_000 + np.arange(50, dtype=np.int64) * 100_000_000
    return Recording("weaving", street(), stamps, tracks, lights, egos=(7,))


@pytest.fixture
def ours(tmp_path):
    write_log(tmp_path / "log", recording())
    return tmp_path / "log"


def track_states(found, track):
    row = int(np.flatnonzero(found.tracks.ids == track)[0])
    return row, found.tracks.states[found.tracks.offsets[row] : found.tracks.offsets[row + 1]]


def test_our_own_log_reads_back(ours):
    """Ids, sizes and all states; the ego's id is new, because py123d's ego is no box."""
    wanted, found = recording(), read_py123d(ours)
    assert found.name == "weaving"
    assert found.provenance["dataset"] == "rap"
    np.testing.assert_array_equal(found.stamps_ns, wanted.stamps_ns)
    for track in (9, 4):
        row, states = track_states(found, track)
        other, expected = track_states(wanted, track)
        np.testing.assert_allclose(states, expected, atol=1e-6)
        np.testing.assert_allclose(found.tracks.sizes_m[row], wanted.tracks.sizes_m[other])
        assert found.tracks.first_steps[row] == wanted.tracks.first_steps[other]
        assert found.tracks.classes[row] == wanted.tracks.classes[other]
        assert found.tracks.observed.all()


def test_our_own_ego_reads_back(ours):
    wanted, found = recording(), read_py123d(ours)
    row, states = track_states(found, found.egos[0])
    _, expected = track_states(wanted, 7)
    np.testing.assert_allclose(states, expected, atol=1e-6)
    np.testing.assert_allclose(found.tracks.sizes_m[row], [5.0, 2, 1.6])
    assert found.tracks.rear_axles_m[row] == pytest.approx(1.4)


def test_what_is_read_can_be_written_as_a_log(ours, tmp_path):
    write_log(tmp_path / "again", read_py123d(ours))
    log = DriveLog.open(tmp_path / "again")
    assert len(log.seats()) == 2
    assert len(log.stamps_ns) == 50


# Logs that py123d wrote.

JPEG = b"\xff\xd8\xff image \xff\xd9"
SECONDS, HZ = 2.0, 20.0
STAMPS_US = 5_000_000 + (np.arange(int(SECONDS * HZ)) * 1e6 / HZ).astype(np.int64)


def quaternion(yaw, pitch, roll):
    """Turns about z, then y, then x (w, x, y, z)."""
    result = np.array([1.0, 0, 0, 0])
    for angle, axis in ((yaw, 3), (pitch, 2), (roll, 1)):
        turn = np.zeros(4)
        turn[0], turn[axis] = np.cos(angle / 2), np.sin(angle / 2)
        a, b = result, turn
        result = np.array([
            a[0] * b[0] - a[1:] @ b[1:],
            *(a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:])),
        ])  # fmt: skip
    return result


def pose(py123d, place, turn):
    return py123d.geometry.PoseSE3(*map(float, place), *map(float, quaternion(*turn)))


def ego_metadata(py123d):
    """The IMU sits 0.9 m ahead of the rear axle, a little to the left and up, as in KITTI-360."""
    return py123d.datatypes.EgoStateSE3Metadata(
        vehicle_name="car", width=1.9, length=4.6, height=1.5, wheel_base=2.8,
        center_to_imu_se3=pose(py123d, (0.5, -0.3, -0.2), (0, 0, 0)),
        rear_axle_to_imu_se3=pose(py123d, (-0.9, -0.3, -0.6), (0, 0, 0)),
    )  # fmt: skip


def circling(time):
    """Yaw, pitch, roll and the IMU's place of a car that drives a hilly circle of 50 m radius."""
    yaw = 0.2 * time
    return (yaw, 0.05, -0.03), (50 * np.sin(yaw), 50 - 50 * np.cos(yaw), 2.0)


def ego_states(py123d):
    vector = py123d.geometry.Vector3D
    states = []
    for stamp in STAMPS_US:
        turn, place = circling((stamp - STAMPS_US[0]) * 1e-6)
        states.append(py123d.datatypes.EgoStateSE3.from_imu(
            imu_se3=pose(py123d, place, turn),
            metadata=ego_metadata(py123d),
            timestamp=py123d.datatypes.Timestamp.from_us(int(stamp)),
            dynamic_state_se3=py123d.datatypes.DynamicStateSE3(
                vector(10.0, 0.0, 0.0), vector(0.0, 2.0, 0.0), vector(0.0, 0.0, 0.2)
            ),
        ))  # fmt: skip
    return states


def boxes(py123d, stamp):
    """A truck that is always there, a person seen from 1 s on, and a sign."""
    data, label = py123d.datatypes, py123d.registry.PandasetBoxDetectionLabel
    time = (stamp - STAMPS_US[0]) * 1e-6
    seen = [("truck-token", label.SEMI_TRUCK, (30 + 4 * time, 5, 2.1), 0.3, (9.0, 2.6, 3.6))]
    if time >= 1.0:
        seen.append(("person-token", label.PEDESTRIAN, (20, -4, 1.0), 1.0, (0.6, 0.7, 1.8)))
    detections = [
        data.BoxDetectionSE3(
            attributes=data.BoxDetectionAttributes(label=kind, track_token=token),
            bounding_box_se3=py123d.geometry.BoundingBoxSE3(
                pose(py123d, place, (yaw, 0.02, 0.01)), *size
            ),
            velocity_3d=py123d.geometry.Vector3D(4.0, 0.0, 0.0) if "truck" in token else None,
        )
        for token, kind, place, yaw, size in seen
    ]
    return data.BoxDetectionsSE3(
        detections, data.Timestamp.from_us(int(stamp)), data.BoxDetectionsSE3Metadata(label)
    )


def lights(py123d, stamp, lanes):
    """Red and yellow; after a second the first turns green, and the second is not seen."""
    data, status = py123d.datatypes, py123d.datatypes.TrafficLightStatus
    later = stamp >= STAMPS_US[0] + 1_000_000
    states = [status.GREEN] if later else [status.RED, status.YELLOW]
    detections = [data.TrafficLightDetection(*pair) for pair in zip(lanes, states, strict=False)]
    return data.TrafficLightDetections(detections, data.Timestamp.from_us(int(stamp)))


def camera(py123d, stamp):
    data = py123d.datatypes
    metadata = data.PinholeCameraMetadata(
        camera_name="front", camera_id=data.CameraID.PCAM_F0,
        intrinsics=data.PinholeIntrinsics(800, 810, 320, 240),
        distortion=data.PinholeDistortion(-0.1, 0.02, 0.001, 0.002, 0.0), width=640, height=480,
        camera_to_imu_se3=pose(py123d, (1.0, 0.2, 0.7), (-np.pi / 2, 0, -np.pi / 2)),
    )  # fmt: skip
    return py123d.parsers.ParsedCamera(
        metadata, data.Timestamp.from_us(int(stamp)), None, byte_string=JPEG
    )


def written_by_py123d(py123d, folder, lanes=(), camera_option="jpeg_binary"):
    config = py123d.log_writer.LogWriterConfig(
        force_log_conversion=True, camera_store_option=camera_option, write_route=False
    )
    writer = py123d.log_writer.ArrowLogWriter(config, folder, folder, ipc_compression="zstd")
    writer.reset(py123d.datatypes.LogMetadata("pandaset", "pandaset_train", "drive-7", "town"))
    for state, stamp in zip(ego_states(py123d), STAMPS_US, strict=True):
        found = [state, boxes(py123d, stamp), camera(py123d, stamp)]
        found += [lights(py123d, stamp, lanes)] if lanes else []
        writer.write_sync(py123d.parsers.ModalitiesSync(state.timestamp, found))
    writer.close()
    return folder / "pandaset_train" / "drive-7"


@pytest.fixture(scope="module")
def theirs(py123d, tmp_path_factory):
    return written_by_py123d(py123d, tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="module")
def read(theirs):
    return read_py123d(theirs)


def test_20_hz_log_comes_at_10_hz(read):
    np.testing.assert_array_equal(read.stamps_ns, STAMPS_US[::2] * 1000)
    assert read.name == "drive-7"
    assert read.license.startswith("PandaSet, CC BY 4.0")
    assert read.provenance["split"] == "pandaset_train"


def test_ego_box_is_where_py123d_says(py123d, read):
    """Its centre seen from above, and its heading, although the IMU is elsewhere and tilted.

    The car leans: our upright box stands on the ground below the rear axle.
    """
    row, states = track_states(read, read.egos[0])
    wanted = ego_states(py123d)[::2]
    centers = np.array([[s.center_se3.x, s.center_se3.y] for s in wanted])
    np.testing.assert_allclose(states[:, :2], centers, atol=0.06)  # Half the height, leaning.
    forward = [s.rear_axle_se3.rotation_matrix[:2, 0] for s in wanted]
    np.testing.assert_allclose(states[:, 3], [np.arctan2(y, x) for x, y in forward], atol=1e-9)
    assert read.tracks.rear_axles_m[row] == pytest.approx(1.4)
    np.testing.assert_allclose(read.tracks.sizes_m[row], [4.6, 1.9, 1.5])


def test_ego_stands_on_the_ground_below_its_rear_axle(py123d, read):
    """Half a height below the centre: 0.75 - 0.4 m below the axle, tilted by less than 0.1."""
    _, states = track_states(read, read.egos[0])
    axles = np.array([s.rear_axle_se3.z for s in ego_states(py123d)[::2]])
    np.testing.assert_allclose(states[:, 2], axles - 0.35, atol=2e-3)


def test_ego_velocity_is_that_of_the_box_on_its_circle(read):
    """The motion told for the IMU agrees with where the box goes."""
    _, states = track_states(read, read.egos[0])
    moved = np.gradient(states[:, :2], 0.1, axis=0)
    np.testing.assert_allclose(states[1:-1, 4:6], moved[1:-1], atol=0.05)
    np.testing.assert_allclose(states[:, 6], 0.2, atol=1e-3)


def test_boxes_are_those_that_were_written(read):
    classes = dict(zip(read.tracks.classes.tolist(), read.tracks.ids.tolist(), strict=True))
    row, states = track_states(read, classes[ObjectClass.TRUCK])
    time = np.arange(20) * 0.1
    np.testing.assert_allclose(states[:, 0], 30 + 4 * time, atol=1e-9)
    np.testing.assert_allclose(states[:, 1:3], [[5, 2.1 - 1.8]] * 20, atol=1e-9)
    np.testing.assert_allclose(states[:, 3], 0.3, atol=1e-3)
    np.testing.assert_allclose(states[:, 4:], [[4, 0, 0]] * 20, atol=1e-6)
    np.testing.assert_allclose(read.tracks.sizes_m[row], [9.0, 2.6, 3.6])
    person = int(np.flatnonzero(read.tracks.ids == classes[ObjectClass.PEDESTRIAN])[0])
    assert read.tracks.first_steps[person] == 10


def test_camera_keeps_its_images_and_sees_what_it_saw(py123d, read):
    """A point before the IMU's camera, by py123d's poses and by our model."""
    (found,) = read.cameras
    assert (found.model.name, found.model.width, found.model.height) == ("pcam_f0", 640, 480)
    assert found.model.distortion.coeffs == (-0.1, 0.02, 0.001, 0.002, 0.0)
    assert found.images[3].jpeg == JPEG
    assert [image.stamp_ns for image in found.images] == (STAMPS_US * 1000).tolist()
    # Optical axis forward: camera 1.9 m ahead of the rear axle, 0.5 m to its left, 1.3 m above it.
    forward = found.model.ego_from_camera @ np.array([0.0, 0.0, 1.0, 0.0])
    np.testing.assert_allclose(forward, [1, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(found.model.ego_from_camera[:3, 3], [1.9, 0.5, 1.3 + 0.35])


def test_images_kept_as_paths_are_left_out(py123d, tmp_path):
    image = tmp_path / "image.jpg"
    image.write_bytes(b"\xff\xd8\xff")
    folder = written_by_py123d(py123d, tmp_path / "a")
    file = folder / "camera.pcam_f0.arrow"
    table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    names = table.column_names
    paths = pa.array(["image.jpg"] * len(table))
    changed = table.set_column(names.index("camera.pcam_f0.data"), "camera.pcam_f0.data", paths)
    rewrite(file, changed)
    assert read_py123d(folder).cameras == ()


def rewrite(file, table):
    content = table.combine_chunks()
    file.unlink()
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, content.schema) as writer:
        writer.write_table(content)


def test_ego_without_velocities_moves_as_its_poses_do(py123d, tmp_path):
    folder = written_by_py123d(py123d, tmp_path)
    file = folder / "ego_state_se3.arrow"
    table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    index = table.column_names.index("ego_state_se3.dynamic_state_se3")
    empty = pa.nulls(len(table), table.schema.field(index).type)
    rewrite(file, table.set_column(index, table.schema.field(index), empty))
    found = read_py123d(folder)
    _, states = track_states(found, found.egos[0])
    assert np.hypot(*states[5, 4:6]) == pytest.approx(10.1, abs=0.3)


# Maps.


@pytest.fixture(scope="module")
def town_file(py123d):
    spec = importlib.util.find_spec("py123d")
    folder = Path(spec.submodule_search_locations[0]) / "parser" / "opendrive" / "carla_maps"
    return folder / "Town01.xodr.gz"


@pytest.fixture(scope="module")
def town_map(py123d, town_file, tmp_path_factory):
    """A CARLA town, converted and written by py123d."""
    folder = tmp_path_factory.mktemp("maps")
    parser = py123d.opendrive.OpenDriveMapParser(town_file)
    writer = py123d.map_writer.ArrowMapWriter(True, folder, folder)
    writer.reset(parser.get_map_metadata())
    for item in parser.iter_map_objects():
        writer.write_map_object(item)
    writer.close()
    return folder / "opendrive" / "opendrive_Town01.arrow"


@pytest.fixture(scope="module")
def town(town_map):
    return read_py123d_map(town_map)


def test_lanes_are_those_of_py123ds_own_map(py123d, town_map, town):
    api = py123d.map_api.ArrowMapAPI(town_map)
    layer = py123d.datatypes.MapLayer.LANE
    assert town.name == "opendrive Town01"
    keys = list(api._object_ids_to_row_idx[layer])
    assert set(town.lanes) == {str(key) for key in keys}
    for key in keys:
        wanted, found = api.get_map_object_in_layer(key, layer), town.lanes[str(key)]
        assert set(found.successors) == {str(k) for k in wanted.successor_ids}
        group = wanted.lane_group
        assert found.in_junction == (group is not None and group.intersection_id is not None)
        assert found.speed_limit_mps == wanted.speed_limit_mps
        for line, other in ((found.centerline_m, wanted.centerline),
                            (found.left_m, wanted.left_boundary),
                            (found.right_m, wanted.right_boundary)):  # fmt: skip
            ours, theirs = shapely.LineString(line[:, :2]), shapely.LineString(other.array[:, :2])
            assert ours.hausdorff_distance(theirs) < 0.05


def test_lane_graph_is_that_of_our_own_reader(town, town_file):
    """Two converters of one file: as many lanes, and routes that lead along the same roads."""
    own = load_opendrive(town_file)
    assert len(town.lanes) == len(own.lanes)
    matcher = LaneMatcher(town.lanes)
    for key in sorted(own.lanes)[::25]:
        line = own.lanes[key].centerline_m[:, :2]
        if np.hypot(*(line[-1] - line[0])) < 10.0:
            continue
        yaw = np.unwrap(np.arctan2(*np.gradient(line, axis=0).T[::-1]))
        found = matcher.match(np.column_stack([line, yaw]))
        assert found is not None, key
        reached = np.concatenate([town.lanes[k].centerline_m[:, :2] for k in found])
        assert shapely.LineString(reached).distance(shapely.Point(line[-1])) < 0.5


def test_neighbors_run_the_same_way(town):
    """py123d's may be the oncoming lane; ours never are."""
    pairs = [(lane, town.lanes[n]) for lane in town.lanes.values()
             for n in (lane.left_neighbor, lane.right_neighbor) if n]  # fmt: skip
    for lane, other in pairs:
        ahead = [line[-1, :2] - line[0, :2] for line in (lane.centerline_m, other.centerline_m)]
        assert ahead[0] @ ahead[1] > 0


def test_surfaces_and_crossings_are_drawn(py123d, town_map, town):
    """The drivable area is the union of py123d's surfaces."""
    data = py123d.datatypes
    api = py123d.map_api.ArrowMapAPI(town_map)
    layers = (data.MapLayer.LANE_GROUP, data.MapLayer.CARPARK, data.MapLayer.GENERIC_DRIVABLE)
    known = api._occupancy_maps
    wanted = [known[layer].geometries for layer in layers if layer in known]
    union = shapely.union_all([shape.buffer(0) for shapes in wanted for shape in shapes])
    rings = [town.polygons[i] for i in np.flatnonzero(town.polygons.kinds == PolygonKind.DRIVABLE)]
    ours = shapely.union_all([shapely.make_valid(shapely.Polygon(r[:, :2])) for r in rings])
    assert ours.symmetric_difference(union).area < 1e-3 * union.area
    assert PolygonKind.INTERSECTION in town.polygons.kinds
    assert {LineKind.ROAD_BOUNDARY, LineKind.LANE_CENTERLINE} <= set(town.polylines.kinds.tolist())


def line(py123d, *points):
    return py123d.geometry.Polyline3D.from_array(np.array(points, dtype=np.float64))


def small_map(py123d, folder):
    """A lane east with an oncoming one to its left, a cycle lane, and one object of most layers."""
    data = py123d.datatypes
    writer = py123d.map_writer.ArrowMapWriter(True, folder, folder)
    writer.reset(data.MapMetadata("mine", "here", True, False))
    for key, kind, y, way in ((1, 2, 0.0, 1), (2, 2, 4.0, -1), (3, 3, -4.0, 1)):
        center, left, right = (
            line(py123d, *[(x, y + side * way, 1.0) for x in (0.0, 30.0)[::way]])
            for side in (0.0, 2.0, -2.0)
        )
        writer.write_map_object(data.Lane(
            object_id=key, lane_type=data.LaneType(kind), left_boundary=left, right_boundary=right,
            centerline=center, left_lane_id={1: 2}.get(key), successor_ids=[key, 99],
            speed_limit_mps=8.0,
        ))  # fmt: skip
    square = shapely.box(0, 20, 10, 30).difference(shapely.box(4, 24, 6, 26))
    writer.write_map_object(data.GenericDrivable(4, shapely_polygon=square))
    writer.write_map_object(data.Crosswalk(5, shapely_polygon=shapely.box(0, -9, 3, -6)))
    writer.write_map_object(data.Walkway(6, shapely_polygon=shapely.box(0, -99, 3, -96)))
    edge, stroke = line(py123d, (0, 9, 1), (70, 9, 1)), line(py123d, (0, 2, 1), (30, 2, 1))
    writer.write_map_object(data.RoadEdge(7, data.RoadEdgeType.ROAD_EDGE_BOUNDARY, edge))
    for key, name in enumerate(("NONE", "DASHED_WHITE", "SOLID_YELLOW", "DASH_SOLID_WHITE")):
        writer.write_map_object(data.RoadLine(key, data.RoadLineType[name], stroke))
    writer.close()
    return read_py123d_map(folder / "mine" / "mine_here.arrow")


def test_small_map_is_read_layer_by_layer(py123d, tmp_path):
    """The cycle lane is no lane, the oncoming one no neighbour, lane 99 is not there."""
    found = small_map(py123d, tmp_path)
    assert found.name == "mine here"
    assert {key: lane.successors for key, lane in found.lanes.items()} == {"1": ("1",), "2": ("2",)}
    assert found.lanes["1"].left_neighbor is None
    np.testing.assert_allclose(found.lanes["2"].centerline_m, [[30, 4, 1], [0, 4, 1]])
    np.testing.assert_allclose(found.lanes["2"].left_m[:, 1], 2)
    counts = np.bincount(found.polylines.kinds, minlength=16)
    assert counts[LineKind.LANE_DIVIDER] == 1
    assert counts[LineKind.LANE_BOUNDARY] == 2
    assert counts[LineKind.ROAD_BOUNDARY] == 2  # 70 m in pieces of 50 m at most.
    kinds = found.polygons.kinds
    areas = {
        kind: sum(shapely.Polygon(found.polygons[i][:, :2]).area
                  for i in np.flatnonzero(kinds == kind))
        for kind in set(kinds.tolist())
    }  # fmt: skip
    assert areas == pytest.approx(
        {PolygonKind.DRIVABLE: 2 * 30 * 4 + 100 - 4, PolygonKind.CROSSWALK: 9}
    )


def test_lights_hang_ahead_of_the_lanes_they_stop(py123d, town_map, town, tmp_path):
    keys = sorted((k for k, lane in town.lanes.items() if lane.in_junction), key=int)[:2]
    folder = written_by_py123d(py123d, tmp_path, lanes=[int(key) for key in keys])
    found = read_py123d(folder, town_map)
    assert set(found.lights.lane_ids) == set(keys)
    column = found.lights.lane_ids.index(keys[0])
    assert (found.lights.states[:10, column] == LightState.RED).all()
    assert (found.lights.states[10:, column] == LightState.GREEN).all()
    assert (found.lights.states[:10, 1 - column] == LightState.YELLOW).all()
    assert (found.lights.states[10:, 1 - column] == UNSEEN_LIGHT).all()
    start, second = town.lanes[keys[0]].centerline_m[:2, :2]
    seen = found.lights.centers_m[column, :2] - start
    ahead_m = seen @ (second - start) / np.hypot(*(second - start))
    assert ahead_m == pytest.approx(15.0, abs=0.1)
    assert np.hypot(*seen) < 15.2  # Beside the straight way at most as far as a light of a turn.
    assert len(found.map.traffic_lights) == 2


def test_map_of_the_log_folder_is_found(py123d, town_map, tmp_path):
    folder = written_by_py123d(py123d, tmp_path)
    assert not read_py123d(folder).map.lanes
    (folder / "map.arrow").write_bytes(town_map.read_bytes())
    assert read_py123d(folder).map.lanes


# Errors.


@pytest.mark.parametrize("name", ["sync.arrow", "ego_state_se3.arrow"])
def test_missing_file_is_named(ours, name):
    (ours / name).unlink()
    with pytest.raises(LogError, match=f"{name}: missing"):
        read_py123d(ours)


def changed_column(path, name, column, values):
    file = path / name
    table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    rewrite(file, table.set_column(table.column_names.index(column), column, values(table[column])))


BAD = {
    "stamps": ("ego_state_se3", "timestamp_us", lambda c: pa.array([5] * len(c)),
               "timestamp_us: row 1 is not later"),
    "type": ("ego_state_se3", "imu_se3", lambda c: pa.array([1.0] * len(c)),
             r"imu_se3: expected fixed_size_list"),
    "length": ("ego_state_se3", "imu_se3",
               lambda c: pa.array([[0.0] * 7] * len(c), pa.list_(pa.float64(), 7)),
               "imu_se3: row 0: quaternion has length 0"),
    "label": ("box_detections_se3", "label",
              lambda c: pa.array([[77] * len(row) for row in c.to_pylist()], pa.list_(pa.uint16())),
              "label: expected 0 to 11, got 77"),
    "counts": ("box_detections_se3", "label", lambda c: pa.array([[]] * len(c), c.type),
               "differ in the number of boxes"),
    "size": ("box_detections_se3", "bounding_box_se3",
             lambda c: pa.array([[[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]] * len(r) for r in c.to_pylist()],
                                c.type), "size is"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_column_is_named_in_one_line(ours, case):
    key, field, values, message = BAD[case]
    changed_column(ours, f"{key}.arrow", f"{key}.{field}", values)
    with pytest.raises(LogError, match=message) as error:
        read_py123d(ours)
    assert str(ours) in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_unknown_label_class_is_named(ours):
    file = ours / "box_detections_se3.arrow"
    table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    metadata = packed({"box_detection_label_class": "mine.MyLabels"})
    rewrite(file, table.replace_schema_metadata({b"metadata": metadata}))
    with pytest.raises(LogError, match=r"label class: expected one of Default.*got 'MyLabels'"):
        read_py123d(ours)


def outcome(read_file, path):
    """The error's text, or None."""
    try:
        read_file(path)
    except LogError as error:
        return str(error)
    return None


@pytest.fixture(scope="module")
def small_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    short = recording()
    write_log(folder, replace(short, stamps_ns=short.stamps_ns))
    return folder, {file: file.read_bytes() for file in folder.glob("*_se3.arrow")}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_logs_are_refused_in_one_line_or_read(small_files, data):
    """Bytes cut off or changed anywhere in the ego's or the boxes' file."""
    folder, contents = small_files
    file = data.draw(st.sampled_from(sorted(contents)))
    damaged = bytearray(contents[file])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged))) :]
    file.unlink()
    file.write_bytes(damaged)
    error = outcome(read_py123d, folder)
    file.unlink()
    file.write_bytes(contents[file])
    assert error is None or (str(folder) in error and len(error.splitlines()) == 1)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_damaged_maps_are_refused_in_one_line_or_read(py123d, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("map")
    small_map(py123d, folder)
    file = folder / "mine" / "mine_here.arrow"
    damaged = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    file.write_bytes(damaged)
    error = outcome(read_py123d_map, file)
    assert error is None or (str(file) in error and len(error.splitlines()) == 1)


MAP_ROWS = {
    "no feature": ({"lane_type": 1}, "lane 5: 'speed_limit_mps'"),
    "bad line": (
        {"lane_type": 1, "lane_group_id": None, "centerline": [[0.0, 0.0]], "left_boundary": [],
         "right_boundary": [], "left_lane_id": None, "right_lane_id": None, "successor_ids": [],
         "speed_limit_mps": None},
        "lane 5: centerline: expected 2 points or more of 3 numbers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MAP_ROWS)
def test_bad_map_object_is_named(tmp_path, case):
    features, message = MAP_ROWS[case]
    table = pa.table({
        "object_id": pa.array([5], pa.int64()),
        "map_layer": pa.array([0], pa.int8()),
        "features": pa.array([packed(features)], pa.binary()),
        "wkb": pa.array([shapely.box(0, 0, 1, 1).wkb], pa.binary()),
    })  # fmt: skip
    file = tmp_path / "map.arrow"
    file.touch()
    rewrite(file, table.replace_schema_metadata({b"metadata": packed({"dataset": "x"})}))
    with pytest.raises(LogError) as error:
        read_py123d_map(file)
    assert message in str(error.value)
    assert str(file) in str(error.value)
