"""Records SUMO traffic as a log: every road user and traffic light at 10 Hz in map coordinates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from rap_evaluation.logs.recording import (
    Recording,
    Tracks,
    farthest_drivers,
    typical_rear_axles,
)
from rap_evaluation.traffic.demand import PEDESTRIAN_KIND, kind_of
from rap_evaluation.traffic.ground import Ground
from rap_evaluation.traffic.light_tracks import light_heads, light_tracks
from rap_evaluation.traffic.motion import follow
from rap_evaluation.traffic.network import Network, build_network
from rap_evaluation.traffic.simulation import DT_S, RecordOptions, Trace, simulate
from rap_evaluation.traffic.towns import TrafficError
from rap_raster.frames import FloatArray
from rap_raster.maps.opendrive import load_opendrive

LICENSE = "Simulated SUMO traffic; the CARLA towns it may drive in: CARLA map assets, CC BY 4.0"

_MIN_STEPS = 10  # One second; shorter tracks tell nothing.
_TELEPORT_M = 6.0  # In one step: 60 m/s, so SUMO has moved the vehicle out of a jam.


def record(
    map_path: Path,
    options: RecordOptions,
    cache: Path,
    progress: Callable[[float], None] | None = None,
) -> Recording:
    """Simulates and records traffic on an OpenDRIVE map.

    Args:
        map_path: .xodr or .xodr.gz file.
        options: What to record.
        cache: Folder for SUMO networks.
        progress: Called with the share that is done, 0 to 1.

    Raises:
        TrafficError: If SUMO is missing or the map has no usable roads.
        MapError: If the map cannot be read.
    """
    vector_map = load_opendrive(map_path)
    network = build_network(map_path, vector_map, cache)
    trace = simulate(network, options, progress)
    ground = Ground(vector_map)
    heads = light_heads(network, vector_map, ground)
    tracks = _tracks(trace, network, ground, options.steps)
    return Recording(
        name=f"{vector_map.name}-seed{options.seed}",
        map=vector_map,
        stamps_ns=np.arange(options.steps, dtype=np.int64) * round(DT_S * 1e9),
        tracks=tracks,
        lights=light_tracks(heads, trace.light_states, options.steps),
        provenance={
            "source": "SUMO",
            "seed": str(options.seed),
            "vehicles": str(options.vehicles),
            "pedestrians": str(options.pedestrians),
        },
        license=LICENSE,
        egos=farthest_drivers(tracks, options.egos),
    )


def _tracks(trace: Trace, network: Network, ground: Ground, steps: int) -> Tracks:
    keys, pieces, first_steps = [], [], []
    for key in sorted(trace.samples, key=_birth_order):
        length_m = 0.0 if kind_of(key) is PEDESTRIAN_KIND else trace.sizes_m[key][0]
        for run in _continuous_runs(np.array(trace.samples[key])):
            within = (run[:, 0] >= 0) & (run[:, 0] < steps)
            if within.sum() >= _MIN_STEPS:
                keys.append(key)
                pieces.append(_states(run, network, ground, length_m)[within])
                first_steps.append(run[within][0, 0])
    if not keys:
        raise TrafficError("no road user was recorded: record longer, or more vehicles")
    first = np.array(first_steps, dtype=np.int32)
    ids = np.arange(1, len(keys) + 1, dtype=np.int32)
    sizes_m = np.array([trace.sizes_m[key] for key in keys])
    states = np.concatenate(pieces)
    return Tracks(
        ids=ids,
        source_ids=ids.astype(np.int64),
        classes=np.array([kind_of(key).object_class for key in keys], dtype=np.uint8),
        sizes_m=sizes_m,
        rear_axles_m=typical_rear_axles(sizes_m),
        first_steps=first,
        last_steps=first + np.array([len(piece) - 1 for piece in pieces], dtype=np.int32),
        states=states,
        observed=np.ones(len(states), dtype=np.bool_),
    )


def _birth_order(key: str) -> tuple[str, int]:
    """Sorts ids such as "bus.12" by kind and number."""
    kind, number = key.split(".")
    return kind, int(number)


def _continuous_runs(samples: FloatArray) -> list[FloatArray]:
    """Cuts (n, 6) samples of one road user where it vanished or was moved by SUMO."""
    jumped = np.hypot(*np.diff(samples[:, 1:3], axis=0).T) > _TELEPORT_M
    cuts = np.flatnonzero((np.diff(samples[:, 0]) != 1) | jumped) + 1
    return [run for run in np.split(samples, cuts) if len(run) >= 2]


def _states(run: FloatArray, network: Network, ground: Ground, length_m: float) -> FloatArray:
    """Returns (n, 7) `STATE_COLUMNS` of one run of front positions and headings."""
    fronts = network.to_map(run[:, 1:3])
    motion = follow(fronts, run[:, 5], float(run[0, 4]), length_m, DT_S)
    z = ground.height(np.column_stack([motion[:, :2], run[:, 3]]))
    return np.column_stack([motion[:, :2], z, motion[:, 2:]])
