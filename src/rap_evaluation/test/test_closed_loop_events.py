from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from rap_evaluation.closed_loop.drive import Drive
from rap_evaluation.closed_loop.ego_vehicle import FRONT_M
from rap_evaluation.closed_loop.events import (
    STOP_LINE_M,
    Collision,
    ContactKind,
    Events,
    Watch,
    contacts,
)
from rap_evaluation.closed_loop.place import Place
from rap_evaluation.closed_loop.report import route_report
from rap_evaluation.closed_loop.road_users import RoadUsers
from rap_evaluation.closed_loop.routes import Route
from rap_evaluation.closed_loop.scores import comfort_share, runs, score_drive
from rap_evaluation.closed_loop.surface import FAR_M, Surface
from rap_evaluation.metrics import pdm_kernels as kernels
from rap_evaluation.metrics.bench2drive import parse_bench2drive, score_bench2drive
from rap_evaluation.planners.observation import LEVEL_M, on_level
from rap_evaluation.traffic.ground import Ground
from rap_evaluation.traffic.light_tracks import LightHeads
from rap_evaluation.traffic.network import Connection, Network
from rap_raster.frames import Pose
from rap_raster.maps.vector_map import Lane, VectorMap
from rap_raster.scene import Boxes, LightState, ObjectClass, PolygonKind, Shapes
from rap_raster.vehicle import PACIFICA

CAR, WALKER = ObjectClass.VEHICLE, ObjectClass.PEDESTRIAN
ON_ROAD = np.zeros(5, dtype=np.bool_)
BETWEEN_LANES = np.array([True, False, False, False, False])


def ego(x=0.0, y=0.0, heading=0.0, speed=8.0):
    state = np.zeros(11)
    state[:4] = x, y, heading, speed
    return state


def box(x, y, *, yaw=0.0, velocity=(0.0, 0.0), code=CAR, number=7, size=(4.5, 1.9, 1.5)):
    return (number, code, x, y, 0.75, *size, yaw, *velocity)


def straight_lane(key, start_m, end_m, y_m, *, in_junction=False, successors=()):
    x = np.linspace(start_m, end_m, 11)
    line = np.stack([x, np.full(11, y_m), np.zeros(11)], axis=-1)
    left, right = (line + np.array([0.0, side, 0.0]) for side in (1.75, -1.75))
    return Lane(key, line, left, right, successors=successors, in_junction=in_junction)


@pytest.fixture
def place():
    """Two lanes beside each other; the right one crosses a signalled junction from 40 to 60 m."""
    lanes = [
        straight_lane("before", 0.0, 40.0, 0.0, successors=("turn",)),
        straight_lane("turn", 40.0, 60.0, 0.0, in_junction=True, successors=("after",)),
        straight_lane("after", 60.0, 200.0, 0.0),
        straight_lane("beside", 0.0, 200.0, 3.5),
    ]
    road = [[0.0, -1.75, 0.0], [200.0, -1.75, 0.0], [200.0, 5.25, 0.0], [0.0, 5.25, 0.0]]
    vector_map = VectorMap(
        "crossing",
        Shapes.from_list([]),
        Shapes.from_list([(PolygonKind.DRIVABLE, road)]),
        {lane.id: lane for lane in lanes},
    )
    turn = Connection("a", 0, "b", "s", "light", 0, lanes[1].centerline_m, 0.0)
    return Place(
        map=vector_map,
        network=Network(None, np.zeros(2), (), (), (turn,), frozenset(), {}, {}),
        ground=Ground(vector_map),
        surface=Surface(vector_map),
        heads=LightHeads((), (), (), np.zeros((0, 3)), np.zeros(0)),
        turns={"turn": turn},
        bends={},
    )


@pytest.fixture
def route():
    along = np.arange(0.0, 200.5, 0.5)
    line = np.stack([along, np.zeros_like(along), np.zeros_like(along)], axis=-1)
    return Route(
        lane_ids=("before", "turn", "after"),
        line_m=line,
        along_m=along,
        seed=1,
        index=0,
        junctions=("turn",),
        edges=("a", "b"),
        start_m=8.0,
        goal_m=108.0,
    )


# The ego's box reaches from 1.127 m behind its rear axle to 4.049 m ahead, 1.1485 m to each side.
@pytest.mark.parametrize(
    ("state", "row", "flags", "kind", "at_fault"),
    [
        (ego(), box(6.2, 0.0), ON_ROAD, ContactKind.STOPPED_TRACK, True),
        (ego(), box(6.2, 0.0, velocity=(2.0, 0.0)), ON_ROAD, ContactKind.FRONT, True),
        (ego(), box(-3.3, 0.0, velocity=(9.0, 0.0)), ON_ROAD, ContactKind.REAR, False),
        (ego(), box(1.0, 2.0, velocity=(8.0, 0.0)), ON_ROAD, ContactKind.LATERAL, False),
        (ego(), box(1.0, 2.0, velocity=(8.0, 0.0)), BETWEEN_LANES, ContactKind.LATERAL, True),
        (ego(speed=0.0), box(6.2, 0.0, velocity=(-3.0, 0.0)), ON_ROAD, ContactKind.STOPPED_EGO,
         False),
        (ego(heading=np.pi / 2), box(0.0, 6.2, yaw=np.pi / 2, velocity=(0.0, 2.0)), ON_ROAD,
         ContactKind.FRONT, True),
    ],
)  # fmt: skip
def test_contacts_are_typed_as_the_pdm_score_does(state, row, flags, kind, at_fault):
    (met,) = contacts(state, flags, Boxes.from_rows([row]), step=3)
    assert (met.kind, met.at_fault) == (kind, at_fault)
    assert (met.step, met.track, met.object_class) == (3, 7, CAR)


def test_what_does_not_touch_is_no_contact():
    near = Boxes.from_rows([box(6.35, 0.0), box(0.0, 2.2, number=8)])
    assert contacts(ego(), ON_ROAD, near, step=0) == []
    assert contacts(ego(), ON_ROAD, Boxes.empty(), step=0) == []


BRIDGE_M = 6.0
UP = np.array([0.0, 0.0, BRIDGE_M])


def on_bridge(row):
    return (*row[:4], row[4] + BRIDGE_M, *row[5:])


def test_a_car_on_a_bridge_over_the_route_is_no_collision(place, route):
    under, over = box(16.2, 0.0, number=8), on_bridge(box(16.2, 0.0, number=9))
    watch = Watch(place, route)
    watch.step(0, ego(x=10.0), 10.0, Boxes.from_rows([over]), {"turn": LightState.GREEN})
    assert watch.events.collisions == []
    watch.step(1, ego(x=10.0), 10.0, Boxes.from_rows([over, under]), {"turn": LightState.GREEN})
    assert [collision.track for collision in watch.events.collisions] == [8]


def test_an_ego_on_a_bridge_collides_there_only(place, route):
    watch = Watch(place, replace(route, line_m=route.line_m + UP))
    rows = [box(16.2, 0.0, number=8), on_bridge(box(16.2, 0.0, number=9))]
    watch.step(0, ego(x=10.0), 10.0, Boxes.from_rows(rows), {"turn": LightState.GREEN})
    assert [collision.track for collision in watch.events.collisions] == [9]


def test_a_level_is_about_the_ground_not_the_height_of_a_road_user():
    tall = (1, CAR, 0.0, 0.0, 4.5, 12.0, 2.5, 9.0, 0.0, 0.0, 0.0)  # Its centre is above LEVEL_M.
    boxes = Boxes.from_rows([tall, on_bridge(box(0.0, 0.0, number=2))])
    assert on_level(boxes, LEVEL_M - 0.1).ids.tolist() == [1, 2]
    assert on_level(boxes, 0.0).ids.tolist() == [1]
    assert on_level(boxes, BRIDGE_M).ids.tolist() == [2]
    assert len(on_level(Boxes.empty(), 0.0)) == 0


def sumo_with(positions_m):
    """Standing cars for `RoadUsers`, 4.5 m long, heading east."""
    cars = SimpleNamespace(
        getIDList=lambda: list(positions_m),
        getPosition3D=lambda key: positions_m[key],
        getSpeed=lambda _: 0.0,
        getAngle=lambda _: 90.0,
        getLength=lambda _: 4.5,
        getWidth=lambda _: 1.9,
        getHeight=lambda _: 1.5,
    )
    return SimpleNamespace(vehicle=cars, person=SimpleNamespace(getIDList=list))


@pytest.mark.parametrize("ego_z_m", [0.0, BRIDGE_M])
def test_road_users_stand_on_the_level_that_sumo_has_them_on(place, ego_z_m):
    bridge = replace(
        place.map.lanes["before"],
        id="bridge",
        centerline_m=place.map.lanes["before"].centerline_m + UP,
    )
    lanes = {**place.map.lanes, "bridge": bridge}
    crossing = replace(place, ground=Ground(replace(place.map, lanes=lanes)))
    positions_m = {"car.1": (20.0, 0.0, 0.2), "car.2": (20.0, 0.0, BRIDGE_M - 0.2)}
    users = RoadUsers(sumo_with(positions_m), crossing)
    users.step()
    boxes = users.boxes(Pose(15.0, 0.0, ego_z_m, 0.0), 50.0)
    assert boxes.centers_m[:, 2].tolist() == [0.75, BRIDGE_M + 0.75]
    positions_m["car.1"] = (20.1, 0.0, BRIDGE_M)  # Later heights count, not the first.
    users.step()
    boxes = users.boxes(Pose(15.0, 0.0, ego_z_m, 0.0), 50.0)
    assert boxes.centers_m[:, 2].tolist() == [BRIDGE_M + 0.75] * 2


def test_a_contact_counts_once_and_again_after_it_ended(place, route):
    watch = Watch(place, route)
    touching, apart = (Boxes.from_rows([box(x, 0.0, velocity=(2.0, 0.0))]) for x in (16.2, 20.0))
    for step, boxes in enumerate((touching, touching, apart, touching)):
        watch.step(step, ego(x=10.0), 10.0, boxes, {"turn": LightState.GREEN})
    assert [collision.step for collision in watch.events.collisions] == [0, 3]


@pytest.mark.parametrize(
    ("y", "off_road", "between"),
    [(0.0, False, False), (1.75, False, True), (3.5, False, False), (-0.7, True, False)],
)
def test_lanes_and_road_around_the_ego(place, y, off_road, between):
    several_lanes, off = place.surface.flags(ego(x=20.0, y=y), 0.0)[:2]
    assert (off, several_lanes) == (off_road, between)


@pytest.mark.parametrize(("height_m", "off_road"), [(0.0, True), (6.0, False)])
def test_a_road_over_or_under_the_ego_is_none_to_drive_on(place, height_m, off_road):
    """Beside the road there is a bridge, 6 m up: only who is up there stands on it."""
    bridge = [[0.0, 5.0, 6.0], [200.0, 5.0, 6.0], [200.0, 15.0, 6.0], [0.0, 15.0, 6.0]]
    drivable = [place.map.polygons[0], bridge]
    shapes = Shapes.from_list([(PolygonKind.DRIVABLE, ring) for ring in drivable])
    surface = Surface(replace(place.map, polygons=shapes))
    assert surface.flags(ego(x=20.0, y=10.0), height_m)[kernels.NON_DRIVABLE] == off_road
    along = np.linspace(10.0, 100.0, 5)
    poses_m = np.stack([along, along * 0.0 + 10.0, along * 0.0 + height_m, along * 0.0], axis=-1)
    assert surface.fits(poses_m) is not off_road


def test_off_road_steps_are_those_with_a_corner_off_the_road(place, route):
    watch = Watch(place, route)
    for step, y in enumerate((0.0, -0.7, -0.7, 0.0, -0.7)):
        watch.step(step, ego(x=20.0, y=y), 20.0, Boxes.empty(), {"turn": LightState.GREEN})
    assert list(watch.events.off_road_m) == [1, 2, 4]
    assert runs(watch.events.off_road_m) == [[1, 2], [4]]
    beyond_m = 0.7 + 0.5 * PACIFICA.width_m - 1.75
    assert list(watch.events.off_road_m.values()) == pytest.approx([beyond_m] * 3)


def test_off_the_road_is_measured_from_the_farthest_corner_to_any_road(place):
    """Turned across the edge of the road, and where there is none."""
    across = ego(x=20.0, y=0.0, heading=-0.5 * np.pi)
    front_m = PACIFICA.rear_axle_to_center_m + 0.5 * PACIFICA.length_m
    assert place.surface.off_road_m(across, 0.0) == pytest.approx(front_m - 1.75)
    assert place.surface.off_road_m(ego(x=20.0, y=1.75), 0.0) == 0.0
    assert place.surface.off_road_m(ego(x=20.0, y=0.0), 50.0) == FAR_M


@pytest.mark.parametrize(
    ("depth_m", "clean", "tolerated"),
    [
        (None, True, True),
        (0.0, False, True),
        (0.1, False, True),
        (0.29, False, True),
        (0.31, False, False),
    ],
)
def test_corners_may_be_off_the_road_a_little_where_nuplan_lets_them(
    route, depth_m, clean, tolerated
):
    """A corner that is on the edge, off the road by nothing, is not on it for the PDM score."""
    depths_m = {} if depth_m is None else {11: 0.5 * depth_m, 12: depth_m}
    events = Events(off_road_m=depths_m)
    row = route_report(straight_drive(route, events=events), None).row
    assert (row["clean"], row["clean_within_tolerance"]) == (clean, tolerated)
    assert row["off_road_m"] == (depth_m or 0.0)
    texts = [event["what"] for event in row["events"]]
    assert texts == ([] if depth_m is None else [f"off the road by {depth_m:.2f} m"])


@pytest.mark.parametrize(
    ("state", "reds"),
    [(LightState.RED, 1), (LightState.YELLOW, 0), (LightState.GREEN, 0)],
)
def test_red_is_run_once_by_crossing_the_line(place, route, state, reds):
    watch = Watch(place, route)
    for step in range(100):
        x = 10.0 + 0.5 * step
        watch.step(step, ego(x=x), x, Boxes.empty(), {"turn": state})
    assert len(watch.events.red_light_steps) == reds
    if reds:
        front_m = 10.0 + 0.5 * watch.events.red_light_steps[0] + FRONT_M
        assert 0.0 <= front_m - (40.0 + STOP_LINE_M) < 0.5


@pytest.mark.parametrize(("y_m", "outside"), [(0.0, []), (3.5, [0, 1, 2, 3])])
def test_the_other_side_of_the_road_is_outside_the_lanes_of_the_route(place, route, y_m, outside):
    watch = Watch(place, route)
    for step in range(4):
        x = 10.0 + step
        watch.step(step, ego(x=x, y=y_m), x, Boxes.empty(), {"turn": LightState.GREEN})
    assert watch.events.off_lane_steps == outside
    assert not watch.events.off_road_m
    row = route_report(straight_drive(route, events=watch.events), None).row
    assert row["clean"] == row["clean_within_tolerance"] == (not outside)
    assert row["status"] == ("Completed" if outside else "Perfect")


def test_waiting_over_the_line_is_no_red_light(place, route):
    watch = Watch(place, route)
    for step, signal in enumerate((LightState.GREEN, LightState.RED, LightState.RED)):
        x = 38.0 + step
        watch.step(step, ego(x=x), x, Boxes.empty(), {"turn": signal})
    assert watch.events.red_light_steps == []


def straight_drive(route, *, steps=200, failure="", events=None):
    """Ten metres a second along the route."""
    states = np.zeros((steps + 1, 11))
    states[:, 0] = route.start_m + 0.5 * np.arange(steps + 1)
    states[:, 3] = 5.0
    return Drive(route, failure, states, states[:, 0], events or Events(), ())


def hit(code, *, at_fault=True, step=5):
    return Collision(step, 1, code, ContactKind.FRONT, at_fault)


def test_score_is_that_of_bench2drive(route):
    events = Events(
        [hit(CAR), hit(WALKER), hit(CAR, at_fault=False)],
        off_road_m=dict.fromkeys(range(11, 15), 0.1),
        off_lane_steps=[13, 14, 15, 16],
        red_light_steps=[50],
    )
    score = score_drive(straight_drive(route, steps=100, failure="blocked", events=events))
    expected = score_bench2drive(
        parse_bench2drive(
            {
                "kind": "route",
                "timeout": False,
                "failure_message": "",
                "events": [
                    {"type": "COLLISION_VEHICLE"},
                    {"type": "COLLISION_PEDESTRIAN"},
                    {"type": "TRAFFIC_LIGHT_INFRACTION"},
                    {"type": "OUTSIDE_ROUTE_LANES_INFRACTION", "percentage": 6.0},
                    {"type": "ROUTE_COMPLETION", "route_completed": 50.0},
                ],
            }
        )
    )
    assert score.driving_score == pytest.approx(expected["score_composed"], abs=1e-6)
    assert score.completion == pytest.approx(0.5)
    assert (score.collisions_at_fault, score.collisions_not_at_fault) == (2, 1)
    assert (score.off_road, score.red_lights, score.faultless) == (1, 1, False)
    assert (score.off_road_share, score.off_lane_share) == pytest.approx((0.04, 0.04))


def test_a_clean_arrival_scores_full(route):
    score = score_drive(straight_drive(route))
    assert (score.driving_score, score.comfort, score.faultless) == (100.0, 1.0, True)


def test_comfort_is_the_share_of_stretches_within_bounds():
    states = np.zeros((80, 11))
    states[:, 3] = 5.0
    states[20:40, 5] = -6.0  # Braking harder than -4.05 m/s^2.
    assert comfort_share(states) == 0.75
    circling = np.zeros((40, 11))
    circling[:, 3], circling[:, 9] = 10.0, 0.48  # 4.8 m/s^2 sideways; the bound is 4.89.
    assert comfort_share(circling) == 1.0
    circling[:, 9] = 0.5
    assert comfort_share(circling) == 0.0


def test_a_drive_that_never_began_has_a_score(route):
    drive = replace(straight_drive(route, steps=0), failure="planner: RuntimeError: no")
    assert score_drive(drive).driving_score == 0.0
