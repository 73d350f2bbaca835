"""How much plans jump when a fifth of the detections is missing: bag, tracker, rasters, planner.

Detections are the objects of a bag without their ids and velocities. The run without missing
detections is the reference; it goes through the tracker too. Prints JSON; exits with 1 where more
ids change than in the reference, or plan-to-plan jumps grow by more than a fifth.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from rap_bringup.bag_reader import (
    messages,
    objects_of,
    open_bag,
    read_map,
    read_odometry,
    read_routes,
)
from rap_bringup.drives.recorded_drive import RecordedObjects
from rap_inference.bundle import load_bundle
from rap_inference.network import OnnxRuntimeNetwork
from rap_perception.tracker import Tracker
from rap_planner.planner import Planner
from rap_planner.route import NO_GUIDANCE, Guidance
from rap_raster.ego_history import EgoHistory
from rap_raster.encoder import FeatureEncoder, nominal_rig
from rap_raster.feature_step import FeaturePolicy, FeatureStep
from rap_raster.frames import FloatArray
from rap_raster.geometry import place_seen
from rap_raster.ground import build_ground
from rap_raster.observations import TrackedObjects
from rap_raster.styles import load_style

DROPPED_SHARE = 0.2
COMPARED_S = 3.0
"""Plans are compared over their first seconds; later poses are guesses in any case."""

NEAR_M = 1.0

GONE_NS = 1_000_000_000


@dataclass(frozen=True)
class Plan:
    """The best candidate of a step: stamp in seconds, and (T, 2) places `dt_s` apart."""

    t_s: float
    places_m: FloatArray
    dt_s: float


class Drive:
    """A bag and a bundle, ready to be planned through again and again."""

    def __init__(self, bag_path: Path, bundle_path: Path, steps: int) -> None:
        """Reads both."""
        bag, bundle = open_bag(bag_path), load_bundle(bundle_path)
        self.odometry = read_odometry(bag)
        self.objects = [objects_of(item.raw) for item in messages(bag, {"objects"})][:steps]
        vector_map, route_m = read_map(bag), next(read_routes(bag), None)
        if vector_map is None or route_m is None:
            raise ValueError(f"{bag_path}: has no map or no route")
        self._route_m = route_m
        manifest = bundle.manifest
        self._history = manifest.history
        self._style = load_style(manifest.style)
        self._ground = build_ground(vector_map.polylines, vector_map.polygons, self._style)
        self._rig = nominal_rig(bundle)
        shape = manifest.features
        self._step = FeatureStep(
            FeatureEncoder(bundle, OnnxRuntimeNetwork(bundle.encoder_path)),
            (shape.channels, shape.height, shape.width),
            FeaturePolicy(
                use_images=False,
                fill_missing=True,
                measure_alignment=False,
                objects_independent=True,
            ),
        )
        self._planner = Planner(bundle, OnnxRuntimeNetwork(bundle.planner_path))

    def plans(self, objects: list[TrackedObjects]) -> list[Plan]:
        """Plans once per message, as raster and planner node do."""
        history, plans, states = EgoHistory(), [], list(self.odometry)
        for seen in objects:
            while states and states[0].stamp_ns <= seen.stamp_ns:
                history.add(states.pop(0))
            ego = history.at(seen.stamp_ns)
            if ego is None:
                continue
            around = seen.boxes
            geometry = place_seen(self._ground, ego.pose, around, seen.lights, self._style)
            features = self._step.from_rasters(seen.stamp_ns, self._rig, geometry).features
            rows = history.network_input(seen.stamp_ns, self._history.steps, self._history.dt_s)
            route_m = self._route_m
            guidance = NO_GUIDANCE if route_m is None else Guidance.along(route_m, ego.pose)
            answer = self._planner.plan(features, ego, rows, guidance)
            best = answer.poses_m[answer.best][:, :2]
            places = np.concatenate([[[ego.x_m, ego.y_m]], best])
            plans.append(Plan(seen.stamp_ns * 1e-9, places, answer.dt_s))
        return plans


def detected(
    recorded: list[RecordedObjects], dropped_share: float, seed: int
) -> list[TrackedObjects]:
    """Returns what a detector would report: no ids, no velocities, some objects missing."""
    rng = np.random.default_rng(seed)
    result = []
    for item in recorded:
        kept = item.boxes.select(np.flatnonzero(rng.random(len(item.boxes)) >= dropped_share))
        unknown = np.full_like(kept.velocities_mps, np.nan)
        ones = np.ones(len(kept), np.float32)
        boxes = replace(kept, velocities_mps=unknown)
        result.append(TrackedObjects(item.stamp_ns, boxes, item.lights, 0 * ones, ones))
    return result


def jumps_m(plans: list[Plan]) -> FloatArray:
    """Returns how far each plan lies from the one before at the same instants, mean over time."""
    result = []
    for before, after in pairwise(plans):
        times = after.t_s + np.arange(0.0, COMPARED_S + 1e-6, 0.1)
        distance = np.hypot(*(_at(after, times) - _at(before, times)).T)
        result.append(float(distance.mean()))
    return np.array(result)


def _at(plan: Plan, times_s: FloatArray) -> FloatArray:
    known_s = plan.t_s + plan.dt_s * np.arange(len(plan.places_m))
    return np.stack([np.interp(times_s, known_s, axis) for axis in plan.places_m.T], axis=1)


def id_changes(truth: list[RecordedObjects], tracked: list[TrackedObjects]) -> int:
    """Counts how often a true object is followed under another id than before.

    An object that the bag itself does not show for a while may come back as another one.
    """
    known: dict[int, int] = {}
    last_ns: dict[int, int] = {}
    changes = 0
    for true, seen in zip(truth, tracked, strict=True):
        for number in true.boxes.ids.tolist():
            if true.stamp_ns - last_ns.get(number, 0) > GONE_NS:
                known.pop(number, None)
            last_ns[number] = true.stamp_ns
        offsets = true.boxes.centers_m[:, None, :2] - seen.boxes.centers_m[None, :, :2]
        distance = np.hypot(offsets[..., 0], offsets[..., 1])
        for row, column in zip(*linear_sum_assignment(distance), strict=True):
            if distance[row, column] < NEAR_M:
                number, found = int(true.boxes.ids[row]), int(seen.boxes.ids[column])
                changes += known.get(number, found) != found
                known[number] = found
    return changes


def main() -> int:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bag", type=Path, default=Path("data/demo_drive"))
    parser.add_argument("--bundle", type=Path, default=Path("models/default"))
    parser.add_argument("--steps", type=int, default=10_000, help="messages of the bag, at most")
    parser.add_argument("--seeds", type=int, default=1, help="runs with missing detections")
    arguments = parser.parse_args()
    drive = Drive(arguments.bag, arguments.bundle, arguments.steps)
    figures, changes = {}, {}
    runs = {"complete": (0.0, 0)}
    runs |= {f"dropped {seed}": (DROPPED_SHARE, seed) for seed in range(arguments.seeds)}
    for name, (share, seed) in runs.items():
        tracker = Tracker()
        tracked = [tracker.update(seen) for seen in detected(drive.objects, share, seed)]
        changes[name] = id_changes(drive.objects, tracked)
        figures[name] = float(jumps_m(drive.plans(tracked)).mean())
    untracked = jumps_m(drive.plans(detected(drive.objects, DROPPED_SHARE, 0))).mean()
    worst = max(figures[name] for name in runs if name != "complete") / figures["complete"]
    report = {
        "steps": len(drive.objects),
        "mean_jump_m": figures,
        "mean_jump_m_without_tracker": float(untracked),
        "worst_ratio": worst,
        "id_changes": changes,
    }
    print(json.dumps(report, indent=2))
    return int(worst > 1.2 or max(changes.values()) > changes["complete"])


if __name__ == "__main__":
    sys.exit(main())
