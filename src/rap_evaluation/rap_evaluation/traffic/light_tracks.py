"""Traffic lights of a simulation, placed on the map."""

from __future__ import annotations

import numpy as np

from rap_evaluation.logs.recording import LightTracks
from rap_evaluation.traffic.ground import Ground
from rap_evaluation.traffic.network import Connection, Network
from rap_raster.frames import FloatArray, wrap_angle
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import LightState

LIGHT_ALONG_M = 8.0
"""How far along its turn a light is drawn: past the stop line, where signal heads usually hang."""

LIGHT_HEIGHT_M = 5.5
"""Height of a light's centre above the road."""

LIGHT_SIZE_M = (0.5, 0.5, 1.0)
"""Length, width and height of a light's box."""

# u is red and yellow, s is the green arrow at red; both mean: not yet.
_STATES = {"g": LightState.GREEN, "y": LightState.YELLOW, "u": LightState.RED,
           "r": LightState.RED, "s": LightState.RED}  # fmt: skip


def light_tracks(
    network: Network, vector_map: VectorMap, ground: Ground, text: dict[str, list[str]]
) -> LightTracks:
    """Returns one light per lane that enters a signalled junction and direction it can go."""
    unique: dict[tuple[str, int, str], Connection] = {}
    for connection in network.connections:
        if connection.traffic_light in text:
            key = (connection.from_edge, connection.from_lane, connection.direction)
            unique.setdefault(key, connection)
    connections = list(unique.values())
    placed = [_light_place(connection, network, ground) for connection in connections]
    states = [
        [_STATES.get(state[c.link].lower(), LightState.UNKNOWN) for state in text[light]]
        for c in connections
        if (light := c.traffic_light) is not None
    ]
    return LightTracks(
        lane_ids=tuple(_connector_lane(c, network, vector_map) for c in connections),
        centers_m=np.array([center for center, _ in placed]).reshape(-1, 3),
        sizes_m=np.tile(LIGHT_SIZE_M, (len(placed), 1)),
        yaws_rad=np.array([yaw for _, yaw in placed]),
        states=np.array(states, dtype=np.uint8).reshape(len(connections), -1).T,
    )


def _light_place(
    connection: Connection, network: Network, ground: Ground
) -> tuple[FloatArray, float]:
    """Returns a light's (3,) centre and the direction it shines: against the lane it stops."""
    shape = connection.shape_m.copy()
    shape[:, :2] = network.to_map(shape[:, :2])
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(shape[:, :2], axis=0).T))])
    place = np.array([np.interp(LIGHT_ALONG_M, along, shape[:, axis]) for axis in range(3)])
    z = ground.height(place[None])[0]
    entry = shape[np.searchsorted(along, min(1.0, along[-1]))] - shape[0]
    yaw = float(wrap_angle(np.arctan2(entry[1], entry[0]) + np.pi))
    return np.array([place[0], place[1], z + LIGHT_HEIGHT_M]), yaw


def _connector_lane(connection: Connection, network: Network, vector_map: VectorMap) -> str:
    """Returns the mapped lane of a turn: the connector with the nearest ends; empty if none."""
    shape = network.to_map(connection.shape_m[:, :2])
    best, best_m = "", 2.0  # Half a lane at each end.
    for lane in vector_map.lanes.values():
        if lane.in_junction:
            ends: FloatArray = lane.centerline_m[[0, -1], :2] - shape[[0, -1]]
            distance = float(np.hypot(*ends.T).sum())
            if distance < best_m:
                best, best_m = lane.id, distance
    return best
