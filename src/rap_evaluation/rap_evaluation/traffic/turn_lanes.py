"""Which mapped lane is which of SUMO's turns: both maps know the same junctions by other names."""

from __future__ import annotations

import numpy as np

from rap_evaluation.traffic.network import Network
from rap_raster.maps.vector_map import VectorMap

MAX_GAP_M = 2.0
"""Distances of both ends, added up, within which a turn and a lane are the same: half a lane each.
"""


def turn_lanes(network: Network, vector_map: VectorMap) -> tuple[str, ...]:
    """Returns the mapped connector of each of a network's connections; empty where there is none.

    It is the connector with the nearest ends.
    """
    lanes = [lane for lane in vector_map.lanes.values() if lane.in_junction]
    if not lanes:
        return ("",) * len(network.connections)
    ends = np.stack([lane.centerline_m[[0, -1], :2] for lane in lanes])
    found = []
    for connection in network.connections:
        turn = network.to_map(connection.shape_m[[0, -1], :2])
        gap_m = np.hypot(*(ends - turn).transpose(2, 0, 1)).sum(axis=1)
        nearest = int(gap_m.argmin())
        found.append(lanes[nearest].id if gap_m[nearest] < MAX_GAP_M else "")
    return tuple(found)
