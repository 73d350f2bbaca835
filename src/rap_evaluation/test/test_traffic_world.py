from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from rap_evaluation.logs.log_writer import write_log
from rap_evaluation.logs.recording import farthest_drivers
from rap_evaluation.map_split import TRAIN_MAPS, VALIDATION_MAPS
from rap_evaluation.traffic.network import build_network, densified
from rap_evaluation.traffic.recorder import record
from rap_evaluation.traffic.simulation import RecordOptions
from rap_evaluation.traffic.towns import TrafficError, town_path
from rap_raster.maps.opendrive import load_opendrive
from rap_raster.scene import LightState, ObjectClass

pytestmark = pytest.mark.slow

needs_sumo = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("libsumo", "sumo", "py123d")),
    reason="SUMO or the towns are not installed: run make setup",
)
OPTIONS = RecordOptions(seconds=20.0, seed=3, vehicles=50, pedestrians=15)
ON_LANES = (
    ObjectClass.VEHICLE,
    ObjectClass.TRUCK,
    ObjectClass.BUS,
    ObjectClass.MOTORCYCLE,
    ObjectClass.BICYCLE,
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("sumo")


@pytest.fixture(scope="module")
def town03(cache):
    return record(town_path("Town03"), OPTIONS, cache)


@pytest.fixture(scope="module")
def town01(cache):
    return record(town_path("Town01"), OPTIONS, cache)


def vehicle_states(recording):
    tracks = recording.tracks
    rows = np.repeat(np.isin(tracks.classes, ON_LANES), np.diff(tracks.offsets))
    return tracks.states[rows]


def centerline_distances(recording, points):
    lines = [densified(lane.centerline_m[:, :2]) for lane in recording.map.lanes.values()]
    distance, _ = cKDTree(np.concatenate(lines)).query(points)
    return distance


@needs_sumo
@pytest.mark.parametrize("town", ["town01", "town03"])
def test_traffic_stays_on_mapped_centrelines(town, request):
    """Within 0.5 m of a centreline; who is not changes lanes, so is at most half a lane off."""
    recording = request.getfixturevalue(town)
    widest_m = max(
        np.hypot(*(lane.left_m[0] - lane.right_m[0])[:2]) for lane in recording.map.lanes.values()
    )
    distances = centerline_distances(recording, vehicle_states(recording)[:, :2])
    assert np.mean(distances <= 0.5) > 0.95
    assert distances.max() < 0.5 * widest_m + 0.25


@needs_sumo
def test_traffic_off_the_map_is_noticed(town01):
    """The check above fails if the map's offset is wrong by a metre."""
    distances = centerline_distances(town01, vehicle_states(town01)[:, :2] + [0.8, 0.8])
    assert np.mean(distances <= 0.5) < 0.6


@needs_sumo
def test_all_kinds_of_road_users_are_there(town01):
    kinds = {ObjectClass(code) for code in town01.tracks.classes}
    assert kinds == {*ON_LANES, ObjectClass.PEDESTRIAN}


@needs_sumo
def test_lights_change_and_hang_above_the_road(town01):
    lights = town01.lights
    assert {int(LightState.RED), int(LightState.GREEN)} <= set(lights.states.ravel().tolist())
    assert np.mean(np.ptp(lights.states.astype(int), axis=0) > 0) > 0.2
    known = [key for key in lights.lane_ids if key]
    assert len(known) > 0.8 * len(lights.lane_ids)
    assert all(town01.map.lanes[key].in_junction for key in known)
    np.testing.assert_allclose(lights.centers_m[:, 2], 5.5, atol=0.5)  # Town01 is flat.


@needs_sumo
def test_lights_are_seen_by_whoever_waits_for_them(town01):
    """From the seat of a driver at the line: ahead, and no higher than a wide image reaches."""
    lanes, lights = town01.map.lanes, town01.lights
    for key, center in zip(lights.lane_ids, lights.centers_m, strict=True):
        if not key:
            continue
        line = lanes[key].centerline_m[:2]
        way = (line[1] - line[0])[:2] / np.hypot(*(line[1] - line[0])[:2])
        eye = line[0] + [*(-3.0 * way), 1.5]
        sight = center - eye
        assert np.hypot(*sight[:2]) * np.tan(np.deg2rad(16.0)) > sight[2] > 3.0
        assert way @ sight[:2] > 0.97 * np.hypot(*sight[:2])


@needs_sumo
def test_drivers_stop_at_red(town01):
    """Hardly anybody drives fast over a stop line while the light of his lane is red.

    Where a vehicle enters a governed lane at speed, the light is not red for all of its directions.
    """
    lanes, lights = town01.map.lanes, town01.lights
    entries = {key: i for i, key in enumerate(lights.lane_ids) if key}
    passed_red = passed = 0
    tracks = town01.tracks
    for row in np.flatnonzero(np.isin(tracks.classes, ON_LANES)):
        states = tracks.states[tracks.offsets[row] : tracks.offsets[row + 1]]
        for key, light in entries.items():
            line = lanes[key].centerline_m
            near = np.hypot(*(states[:, :2] - line[len(line) // 2, :2]).T)
            step = int(np.argmin(near))
            along = np.arctan2(*(line[-1] - line[0])[1::-1]) - states[step, 3]
            fast = np.hypot(*states[step, 4:6]) > 6.0
            if near[step] < 1.0 and np.cos(along) > 0.9 and fast:
                passed += 1
                before = max(0, tracks.first_steps[row] + step - 20)
                passed_red += lights.states[before, light] == LightState.RED
    assert passed > 3
    assert passed_red <= 0.2 * passed


@needs_sumo
def test_motion_is_what_vehicles_can_do(town03):
    """Yaw rates and accelerations within what tyres and brakes allow, in all but 0.1 %."""
    tracks = town03.tracks
    for row in np.flatnonzero(np.isin(tracks.classes, ON_LANES)):
        states = tracks.states[tracks.offsets[row] : tracks.offsets[row + 1]]
        speed = np.hypot(states[:, 4], states[:, 5])
        assert np.abs(states[:, 6]).max() < 2.0
        assert np.abs(states[:, 6] * speed).max() < 8.0
        assert np.percentile(np.abs(np.diff(speed)), 99.0) < 0.95


@needs_sumo
def test_vehicles_stand_on_the_road_of_their_level(town03):
    """Heights are those of the centreline below, on hills too."""
    states = vehicle_states(town03)
    points = [densified(lane.centerline_m, 0.5) for lane in town03.map.lanes.values()]
    distance, _ = cKDTree(np.concatenate(points)).query(states[:, :3])
    assert np.percentile(distance, 99) < 2.3
    assert np.ptp(states[:, 2]) > 3.0


@needs_sumo
def test_same_seed_gives_the_same_bytes(town01, cache, tmp_path):
    again = record(town_path("Town01"), OPTIONS, cache)
    other = record(town_path("Town01"), replace(OPTIONS, seed=4), cache)
    for name, recording in (("first", town01), ("again", again), ("other", other)):
        write_log(tmp_path / name, recording)
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert files
    for file in files:
        first = (tmp_path / "first" / file).read_bytes()
        assert first == (tmp_path / "again" / file).read_bytes(), file
    states = [(tmp_path / name / "rap_states.arrow").read_bytes() for name in ("first", "other")]
    assert states[0] != states[1]


@needs_sumo
def test_cars_have_no_business_on_sidewalks(cache):
    """Every edge that is open to cars lies on mapped lanes, except turns that are kept closed."""
    vector_map = load_opendrive(town_path("Town01"))
    network = build_network(town_path("Town01"), vector_map, cache)
    assert set(network.driving_edges) == set(network.edge_lengths_m)
    assert len(network.closed_turns) <= 4


@needs_sumo
def test_unusable_map_is_refused_in_one_line(tmp_path):
    path = tmp_path / "empty.xodr"
    path.write_text(
        '<OpenDRIVE><road id="1" length="20" junction="-1"><planView><geometry s="0" x="0" y="0" '
        'hdg="0" length="20"><line/></geometry></planView><lanes><laneSection s="0"><right>'
        '<lane id="-1" type="sidewalk"><width sOffset="0" a="2" b="0" c="0" d="0"/></lane></right>'
        "</laneSection></lanes></road></OpenDRIVE>"
    )
    with pytest.raises(TrafficError) as error:
        record(path, OPTIONS, tmp_path)
    assert "\n" not in str(error.value)


def test_unknown_town_lists_the_known_ones():
    if importlib.util.find_spec("py123d") is None:
        pytest.skip("the towns are not installed: run make setup")
    with pytest.raises(TrafficError, match="unknown town 'Town99': expected one of Town01, Town02"):
        town_path("Town99")


def test_missing_towns_say_what_to_do(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrafficError, match="run make setup"):
        town_path("Town01")


def test_no_map_trains_and_validates():
    assert not set(TRAIN_MAPS) & set(VALIDATION_MAPS)
    assert set(TRAIN_MAPS) == {"Town01", "Town03", "Town04", "Town06"}
    assert set(VALIDATION_MAPS) == {"Town02", "Town05"}


@needs_sumo
def test_the_cars_that_get_farthest_are_the_egos(town01):
    tracks = town01.tracks
    driven_m = {
        int(key): float(np.hypot(*np.diff(tracks.states[a:b, :2], axis=0).T).sum())
        for key, a, b, code in zip(
            tracks.ids, tracks.offsets[:-1], tracks.offsets[1:], tracks.classes, strict=True
        )
        if code == ObjectClass.VEHICLE
    }
    three = farthest_drivers(tracks, 3)
    assert town01.egos == three[:1]
    assert sorted(driven_m, key=driven_m.get)[-3:] == list(three)[::-1]
