"""Traffic where the ego is: road users appear at some distance around it and go when far away."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import numpy.typing as npt

from rap_evaluation.closed_loop.ego_vehicle import EGO
from rap_evaluation.closed_loop.place import Place
from rap_evaluation.traffic.demand import Demand
from rap_evaluation.traffic.network import densified
from rap_raster.frames import FloatArray

APPEAR_M = (70.0, 200.0)
"""Distances from the ego to the outermost lanes where road users appear: sensors see 120 m, so some
do in sight, but none where the ego could not brake for it."""

VANISH_M = 260.0
"""Distance from the ego beyond which vehicles and people are taken out."""

VEHICLES_PER_KM = 10.0
"""Per kilometre of lanes within reach: one every 100 m, busy and still flowing town traffic."""

MAX_VEHICLES = 45
PEDESTRIANS = 25
"""Within reach."""

STUCK_S = 20.0
"""A vehicle that stands in a junction for longer is taken out, and counted: SUMO's vehicles and the
ego can wait there for each other for ever, each in the other's way, as people would not."""

_SAMPLE_M = 5.0


class LocalDemand(Demand):
    """Keeps the surroundings of the ego busy."""

    def __init__(self, sumo: ModuleType, place: Place, *, duration_s: float, seed: int) -> None:
        """Prepares demand for a running simulation.

        Args:
            sumo: libsumo, started on the place's network.
            place: Where.
            duration_s: Length of the whole simulation.
            seed: Of all random choices.
        """
        super().__init__(
            sumo, place.network, vehicles=0, pedestrians=0, duration_s=duration_s, seed=seed
        )
        self._roads = _Samples(sumo, place.network.driving_edges)
        self._walks = _Samples(sumo, place.network.walking_edges)
        self._ego_m = np.zeros(2)
        self._nearest_m = 0.0
        self.removed_stuck = 0

    def step_around(self, ego_m: FloatArray, nearest_m: float) -> None:
        """Adds who is missing around the ego, and removes who is far; call it once a second.

        Args:
            ego_m: (2,) network coordinates.
            nearest_m: Distance of the ego within which nobody appears.
        """
        self._ego_m, self._nearest_m = ego_m, nearest_m
        self._remove_gone()
        # Who found no room would wait beside the road, and come out when the ego is there.
        for key in self.sumo.simulation.getPendingVehicles():
            self.sumo.vehicle.remove(key)
        reach_km = 1e-3 * _SAMPLE_M * len(self._roads.within(ego_m, 0.0, APPEAR_M[1]))
        self.want(
            vehicles=min(round(VEHICLES_PER_KM * reach_km), MAX_VEHICLES),
            pedestrians=PEDESTRIANS if len(self._near_walks()) else 0,
        )
        if len(self._near_roads()):
            self.step()

    def vehicle_start(self) -> tuple[str, str]:
        """Returns an edge near the ego and a position on it."""
        near = self._near_roads()
        chosen = near[int(self.rng.integers(len(near)))]
        return self._roads.edges[chosen], f"{self._roads.along_m[chosen]:.1f}"

    def walk(self) -> tuple[str, float | None, str]:
        """Returns a place near the ego and an edge near it."""
        starts, ends = self._near_walks(), self._walks.within(self._ego_m, 0.0, APPEAR_M[1])
        start, end = (near[int(self.rng.integers(len(near)))] for near in (starts, ends))
        return self._walks.edges[start], float(self._walks.along_m[start]), self._walks.edges[end]

    def _near_roads(self) -> npt.NDArray[np.intp]:
        return self._roads.within(self._ego_m, self._nearest_m, APPEAR_M[1])

    def _near_walks(self) -> npt.NDArray[np.intp]:
        return self._walks.within(self._ego_m, self._nearest_m, APPEAR_M[1])

    def remove_within(self, radius_m: float) -> None:
        """Takes out whoever is near the ego; the simulation must be stepped before anything else.

        SUMO still lists who has been taken out until its next step, and crashes when asked where
        they are.
        """
        for domain in (self.sumo.vehicle, self.sumo.person):
            for key in domain.getIDList():
                if self._distance(domain, key) < radius_m:
                    domain.remove(key)

    def _remove_gone(self) -> None:
        """Takes out whoever is far from the ego, and vehicles that are stuck in a junction."""
        for domain in (self.sumo.vehicle, self.sumo.person):
            for key in domain.getIDList():
                if key == EGO:
                    continue
                if self._distance(domain, key) > VANISH_M:
                    domain.remove(key)
                elif domain is self.sumo.vehicle and self._is_stuck(key):
                    domain.remove(key)
                    self.removed_stuck += 1

    def _is_stuck(self, key: str) -> bool:
        vehicles = self.sumo.vehicle
        in_junction = vehicles.getRoadID(key).startswith(":")
        return bool(in_junction and vehicles.getWaitingTime(key) > STUCK_S)

    def _distance(self, domain: ModuleType, key: str) -> float:
        x, y = domain.getPosition(key)
        return float(np.hypot(x - self._ego_m[0], y - self._ego_m[1]))


class _Samples:
    """Places along edges, some metres apart."""

    def __init__(self, sumo: ModuleType, edges: tuple[str, ...]) -> None:
        lines = [densified(np.array(sumo.lane.getShape(f"{edge}_0")), _SAMPLE_M) for edge in edges]
        counts = [len(line) for line in lines]
        self.edges = [edge for edge, n in zip(edges, counts, strict=True) for _ in range(n)]
        self.along_m = np.concatenate(
            [
                np.linspace(0.0, 0.99 * sumo.lane.getLength(f"{edge}_0"), n)
                for edge, n in zip(edges, counts, strict=True)
            ]
            or [np.zeros(0)]
        )
        self._points_m = np.concatenate(lines) if lines else np.zeros((0, 2))

    def within(self, center_m: FloatArray, least_m: float, most_m: float) -> npt.NDArray[np.intp]:
        """Returns the numbers of the places whose distance from a point is in a range."""
        distance_m = np.hypot(*(self._points_m - center_m).T)
        return np.flatnonzero((distance_m >= least_m) & (distance_m <= most_m))
