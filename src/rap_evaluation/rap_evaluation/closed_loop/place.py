"""A map, ready to be driven on: its lanes, its traffic network and how both belong together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from rap_evaluation.closed_loop.surface import Surface
from rap_evaluation.traffic.curve_speed import SpeedProfile, bend_profiles
from rap_evaluation.traffic.ground import Ground
from rap_evaluation.traffic.light_tracks import LightHeads, light_heads
from rap_evaluation.traffic.network import Connection, Network, build_network
from rap_evaluation.traffic.simulation import simulation
from rap_evaluation.traffic.turn_lanes import turn_lanes
from rap_raster.maps.opendrive import load_opendrive
from rap_raster.maps.vector_map import Lane, VectorMap


@dataclass(frozen=True, slots=True)
class Place:
    """A map with its traffic network; made once and shared by all routes.

    Attributes:
        map: Lanes and shapes; speed limits are those of the traffic.
        network: SUMO's view of the same roads.
        ground: Road heights.
        surface: Road and lanes, seen from above.
        heads: Traffic lights.
        turns: SUMO's turn by the id of the mapped connector, for those that traffic can take.
        bends: How fast traffic takes which lane.
    """

    map: VectorMap
    network: Network
    ground: Ground
    surface: Surface
    heads: LightHeads
    turns: dict[str, Connection]
    bends: dict[str, SpeedProfile]


@lru_cache(maxsize=1)
def open_place(map_path: Path, cache: Path) -> Place:
    """Loads an OpenDRIVE map and makes its traffic network; the last one is kept.

    Args:
        map_path: .xodr or .xodr.gz file.
        cache: Folder for SUMO networks.

    Raises:
        TrafficError: If SUMO is missing or the map has no usable roads.
        MapError: If the map cannot be read.
    """
    vector_map = load_opendrive(map_path)
    network = build_network(map_path, vector_map, cache)
    ground = Ground(vector_map)
    with simulation(network, seed=0) as sumo:
        bends = bend_profiles(sumo)
    return Place(
        map=replace(vector_map, lanes=_with_limits(vector_map.lanes, network)),
        network=network,
        ground=ground,
        surface=Surface(vector_map),
        heads=light_heads(network, vector_map, ground),
        turns=_turns(network, vector_map),
        bends=bends,
    )


def _turns(network: Network, vector_map: VectorMap) -> dict[str, Connection]:
    lanes = turn_lanes(network, vector_map)
    return {
        lane: connection
        for lane, connection in zip(lanes, network.connections, strict=True)
        if lane and (connection.from_edge, connection.to_edge) not in network.closed_turns
    }


def _with_limits(lanes: Mapping[str, Lane], network: Network) -> dict[str, Lane]:
    """Returns lanes with the limits that traffic keeps to; they may be below the posted ones."""
    by_road = {
        edge.lstrip("-").split("#")[0]: limit for edge, limit in network.speed_limits_mps.items()
    }
    return {
        key: replace(lane, speed_limit_mps=by_road.get(key.split(".")[0], lane.speed_limit_mps))
        for key, lane in lanes.items()
    }
