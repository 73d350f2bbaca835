"""Finds what is wrong with a label: written for the tests, with nothing of the code it checks."""

from __future__ import annotations

import numpy as np
import shapely
from scipy.integrate import solve_ivp
from scipy.interpolate import PchipInterpolator

DT_S = 0.1
WHEELBASE_SHARE = 3.089 / 5.176  # nuPlan's vehicle.
STEERING_RAD, STEERING_RATE_RADPS = 0.6, 0.6
COMFORT = {  # nuPlan's bounds of expert driving.
    "acceleration": (-4.05, 2.40),
    "lateral acceleration": (-4.89, 4.89),
    "jerk": (-4.13, 4.13),
    "total jerk": (-8.37, 8.37),
    "yaw rate": (-0.95, 0.95),
    "yaw acceleration": (-1.93, 1.93),
}
DRIVABLE = (22, 23)  # Codes of intersections and drivable areas.
OTHER_LEVEL_M = 4.0


def complaints(situation) -> set[str]:
    """Returns all that is wrong with a situation and its label."""
    poses = map_poses(situation)
    return (
        uncomfortable(poses)
        | undrivable(situation, poses)
        | out_of_step(situation)
        | off_road(situation, poses)
        | contacts(situation, poses)
    )


def map_poses(situation) -> np.ndarray:
    """Returns the (T + 1, 3) poses of the label in the map frame, now first, by matrices."""
    ego, path = situation.ego, situation.path_m
    turn = np.array(
        [
            [np.cos(ego.yaw_rad), -np.sin(ego.yaw_rad)],
            [np.sin(ego.yaw_rad), np.cos(ego.yaw_rad)],
        ]
    )
    xy = path[:, :2] @ turn.T + [ego.x_m, ego.y_m]
    yaw = np.unwrap(np.concatenate([[0.0], path[:, 2]])) + ego.yaw_rad
    return np.column_stack([np.vstack([[ego.x_m, ego.y_m], xy]), yaw])


def motion(poses) -> tuple[np.ndarray, np.ndarray]:
    """Returns speeds and yaw rates between poses."""
    return np.hypot(*np.diff(poses[:, :2], axis=0).T) / DT_S, np.diff(poses[:, 2]) / DT_S


def uncomfortable(poses) -> set[str]:
    speed, rate = motion(poses)
    along, across = np.diff(speed) / DT_S, speed * rate
    total = np.hypot(along, 0.5 * (across[1:] + across[:-1]))
    signals = {
        "acceleration": along,
        "lateral acceleration": across,
        "jerk": np.diff(along) / DT_S,
        "total jerk": np.diff(total) / DT_S,
        "yaw rate": rate,
        "yaw acceleration": np.diff(rate) / DT_S,
    }
    return {
        name
        for name, (low, high) in COMFORT.items()
        if signals[name].min() <= low or signals[name].max() >= high
    }


def undrivable(situation, poses) -> set[str]:
    """A bicycle with bounded steering must be able to drive the label, forwards and not aslip."""
    found = set()
    steps, middle = np.diff(poses[:, :2], axis=0), 0.5 * (poses[1:, 2] + poses[:-1, 2])
    ahead = steps[:, 0] * np.cos(middle) + steps[:, 1] * np.sin(middle)
    aside = steps[:, 1] * np.cos(middle) - steps[:, 0] * np.sin(middle)
    if (ahead < -1e-6).any():
        found.add("backwards")
    if (np.abs(aside) > 0.002 + 0.01 * np.abs(ahead)).any():
        found.add("slip")
    if np.abs(bicycle(situation, poses) - poses[:, :2]).max() > 0.05:
        found.add("no bicycle follows")
    return found


def bicycle(situation, poses) -> np.ndarray:
    """Returns the (T + 1, 2) way of a bicycle that steers as the label turns, within its bounds.

    Its speed and the steering it wants are those of the label; its rate and angle are bounded. It
    starts with the speed, heading and yaw rate that the ego is said to have.
    """
    ego, wheelbase = situation.ego, WHEELBASE_SHARE * situation.vehicle.length_m
    speed, rate = motion(poses)
    speed, rate = np.append(ego.vx_mps, speed), np.append(ego.yaw_rate_radps, rate)
    times = DT_S * np.append(0.0, np.arange(len(speed) - 1) + 0.5)
    moving = speed > min(0.03, 0.5 * speed.max())  # Else it keeps its steering.
    curvature = np.interp(times, times[moving], rate[moving] / speed[moving])
    wanted = PchipInterpolator(times, np.arctan(wheelbase * curvature))
    pace = PchipInterpolator(times, speed)

    def derivative(t, state):
        _, _, yaw, steering = state
        v = max(0.0, float(pace(t)))
        pull = float(wanted(t, 1)) + 20.0 * (float(wanted(t)) - steering)
        return [
            v * np.cos(yaw),
            v * np.sin(yaw),
            v * np.tan(np.clip(steering, -STEERING_RAD, STEERING_RAD)) / wheelbase,
            np.clip(pull, -STEERING_RATE_RADPS, STEERING_RATE_RADPS),
        ]

    start = [ego.x_m, ego.y_m, ego.yaw_rad, float(wanted(0.0))]
    span = DT_S * (len(poses) - 1)
    run = solve_ivp(derivative, (0.0, span), start, t_eval=np.linspace(0, span, len(poses)),
                    max_step=0.1, rtol=1e-4, atol=1e-4)  # fmt: skip
    return run.y[:2].T


def out_of_step(situation) -> set[str]:
    """History (rows 0.1 s apart), state of now and label must be one motion."""
    found = set()
    ego, history = situation.ego, situation.history.astype(float)
    now = [0.0, 0.0, 0.0, ego.vx_mps, ego.vy_mps, ego.yaw_rate_radps, 1.0]
    if not np.allclose(history[-1], now, atol=1e-4):
        found.add("history ends elsewhere")
    known = history[history[:, 6] > 0]
    label = situation.path_m[:6]
    run = np.vstack([known[:, :3], label])
    speed, rate = motion(np.column_stack([run[:, :2], np.unwrap(run[:, 2])]))
    if np.abs(np.diff(speed)).max() > 0.8 or np.abs(np.diff(rate)).max() > 0.25:
        found.add("jump between history and label")
    ends = known[:, 3]
    if np.abs(0.5 * (ends[1:] + ends[:-1]) - speed[: len(known) - 1]).max(initial=0.0) > 0.1:
        found.add("speeds of the history are not those of its poses")
    turns = 0.5 * (known[1:, 5] + known[:-1, 5])
    if np.abs(turns - rate[: len(known) - 1]).max(initial=0.0) > 0.03:
        found.add("yaw rates of the history are not those of its poses")
    first = len(known) - 1
    if abs(ego.vx_mps - speed[first]) > 0.3 or abs(ego.yaw_rate_radps - rate[first]) > 0.15:
        found.add("ego state is not that of the label")
    return found


def boxes_along(situation, poses) -> list[shapely.Polygon]:
    vehicle = situation.vehicle
    return [
        box(
            x + vehicle.rear_axle_to_center_m * np.cos(yaw),
            y + vehicle.rear_axle_to_center_m * np.sin(yaw),
            yaw, vehicle.length_m, vehicle.width_m,
        )
        for x, y, yaw in poses
    ]  # fmt: skip


def box(x, y, yaw, length, width) -> shapely.Polygon:
    corners = 0.5 * np.array(
        [[length, width], [-length, width], [-length, -width], [length, -width]]
    )
    cos, sin = np.cos(yaw), np.sin(yaw)
    return shapely.Polygon(corners @ np.array([[cos, sin], [-sin, cos]]) + [x, y])


def off_road(situation, poses) -> set[str]:
    """The whole box must be on what the map calls drivable, but for seams of 0.1 m."""
    inside = shapely.covers(
        road_around(situation.moment.log.map, poses), boxes_along(situation, poses)
    )
    return set() if inside.all() else {"off the road"}


def road_around(vector_map, poses) -> shapely.Geometry:
    """Drivable polygons, and 3 m to either side of lanes whose edges the map does not know."""
    here = shapely.box(*poses[:, :2].min(axis=0) - 20, *poses[:, :2].max(axis=0) + 20)
    polygons = vector_map.polygons
    areas = [
        shapely.Polygon(polygons[i][:, :2])
        for i, kind in enumerate(polygons.kinds)
        if kind in DRIVABLE
    ]
    lines = [lane.centerline_m[:, :2] for lane in vector_map.lanes.values() if lane.left_m is None]
    lanes = shapely.buffer([shapely.LineString(line) for line in lines], 3.0, cap_style="flat")
    near = [area for area in [*areas, *lanes] if area.intersects(here)]
    return shapely.union_all(shapely.make_valid(near)).buffer(0.051)


def contacts(situation, poses) -> set[str]:
    log, moment = situation.moment.log, situation.moment
    tracks, own = log.tracks, boxes_along(situation, poses)
    for row in np.flatnonzero(tracks.ids != moment.seat):
        states = log.states(int(tracks.ids[row]))
        first, last = int(tracks.first_steps[row]), int(tracks.last_steps[row])
        for k, mine in enumerate(own):
            step = moment.step + k
            if not first <= step <= last:
                continue
            x, y, z, yaw = states[step - first, :4]
            if np.hypot(x - poses[k, 0], y - poses[k, 1]) > 30:
                continue
            theirs = box(x, y, yaw, *tracks.sizes_m[row, :2])
            if abs(z - situation.ego.z_m) < OTHER_LEVEL_M and mine.intersects(theirs):
                return {"contact"}
    return set()
