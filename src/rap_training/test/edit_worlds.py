"""A small world to edit: a straight road with a signalled crossing, as a log."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.logs.log_writer import write_log
from rap_evaluation.logs.recording import LightTracks, Recording, Tracks
from rap_evaluation.moments import Moment
from rap_evaluation.pseudo_sim.log_scene import route_way
from rap_raster.maps.vector_map import Lane, VectorMap
from rap_raster.scene import LightState, ObjectClass, PolygonKind, Shapes
from rap_raster.vehicle import REAR_AXLE_TO_CENTER_SHARE
from rap_training.augmentation.edits.expert_drive import ExpertDrive
from rap_training.augmentation.edits.scene_edit import Stage
from rap_training.augmentation.score_scene import initial_state

STEPS = 121
EGO, LEADER, ONCOMING = 1, 2, 3
SPEED_MPS = 8.0
STOP_LINE_M = 60.0
CONNECTOR = "b"
APPROACH_HEADS, CROSSING_HEAD = (0, 1), 2


def write_world(path, name="straight"):
    """A car behind another on the way to a green light, one oncoming; 12 s."""
    rows = {EGO: (0.0, 0.0, 0.0), LEADER: (30.0, 0.0, 0.0), ONCOMING: (120.0, 3.5, np.pi)}
    tracks = Tracks(
        ids=np.array(list(rows), np.int32),
        source_ids=np.array(list(rows), np.int64),
        classes=np.full(len(rows), ObjectClass.VEHICLE, np.uint8),
        sizes_m=np.tile([4.6, 1.9, 1.5], (len(rows), 1)),
        rear_axles_m=np.full(len(rows), 4.6 * REAR_AXLE_TO_CENTER_SHARE),
        first_steps=np.zeros(len(rows), np.int32),
        last_steps=np.full(len(rows), STEPS - 1, np.int32),
        states=np.concatenate([straight(*row) for row in rows.values()]),
        observed=np.ones(len(rows) * STEPS, np.bool_),
    )
    stamps = np.arange(STEPS, dtype=np.int64) * 100_000_000
    recording = Recording(name, road(), stamps, tracks, lights(), egos=(EGO,))
    write_log(path, recording)
    return DriveLog.open(path)


def straight(x, y, yaw, steps=STEPS, speed_mps=SPEED_MPS):
    """States of who drives straight on."""
    states = np.zeros((steps, 7))
    along = 0.1 * speed_mps * np.arange(steps)
    states[:, 0], states[:, 1] = x + along * np.cos(yaw), y + along * np.sin(yaw)
    states[:, 3] = yaw
    states[:, 4:6] = speed_mps * np.cos(yaw), speed_mps * np.sin(yaw)
    return states


def road():
    ends = {"a": (-50.0, STOP_LINE_M), CONNECTOR: (STOP_LINE_M, 80.0), "c": (80.0, 300.0)}
    after = {"a": (CONNECTOR,), CONNECTOR: ("c",), "c": ()}
    lanes = {
        key: lane(key, *span, 0.0, after[key], in_junction=key == CONNECTOR)
        for key, span in ends.items()
    }
    lanes["back"] = lane("back", 300.0, -50.0, 3.5, ())
    ground = [[-50.0, -1.75, 0.0], [300.0, -1.75, 0.0], [300.0, 5.25, 0.0], [-50.0, 5.25, 0.0]]
    polygons = Shapes.from_list([(PolygonKind.DRIVABLE, ground)])
    return VectorMap("straight", Shapes.from_list([]), polygons, lanes)


def lane(key, begin, end, y, successors, *, in_junction=False):
    x = np.linspace(begin, end, 40)
    side = 1.75 * np.sign(end - begin)
    lines = [np.column_stack([x, np.full(40, y + off), np.zeros(40)]) for off in (0.0, side, -side)]
    return Lane(key, *lines, successors=successors, in_junction=in_junction, speed_limit_mps=12.0)


def lights():
    states = np.full((STEPS, 3), LightState.GREEN, np.uint8)
    states[:, CROSSING_HEAD] = LightState.RED
    return LightTracks(
        lane_ids=(CONNECTOR, "", ""),
        centers_m=np.array([[82.0, -2.0, 5.5], [82.0, 2.0, 5.5], [70.0, 8.0, 5.5]]),
        sizes_m=np.tile([0.5, 0.5, 1.0], (3, 1)),
        yaws_rad=np.array([np.pi, np.pi, 0.5 * np.pi]),
        states=states,
    )


def stage_of(log, step, seat=EGO):
    """A moment to edit, as the search has it."""
    moment = Moment(log, seat, step)
    way = route_way(log.map.lanes, log.route_lanes(seat))
    state = initial_state(moment.ego(), moment.history(2, 0.5), 0.5)
    return Stage(moment, way, ExpertDrive(log).drive(moment, state, way))


def obstacle(log, stage, ahead_m, size_m):
    """A barrier that stands across the road ahead of the ego."""
    states = straight(0.0, 0.0, 0.0, stage.last_step - stage.first_step + 1, speed_mps=0.0)
    states[:, 0], states[:, 1] = stage.pose[0] + ahead_m, stage.pose[1]
    like = log.tracks.only(EGO)
    return replace(
        like,
        ids=np.array([9], np.int32),
        classes=np.array([ObjectClass.BARRIER], np.uint8),
        sizes_m=np.array([size_m]),
        first_steps=np.array([stage.first_step], np.int32),
        last_steps=np.array([stage.last_step], np.int32),
        states=states,
        observed=np.ones(len(states), np.bool_),
    )
