"""SUMO's traffic around the ego, step by step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np

from rap_evaluation.closed_loop.ego_vehicle import EgoVehicle, front
from rap_evaluation.closed_loop.local_demand import APPEAR_M, LocalDemand
from rap_evaluation.closed_loop.place import Place
from rap_evaluation.closed_loop.road_users import RoadUsers
from rap_evaluation.closed_loop.routes import Route
from rap_evaluation.planners.observation import Surroundings
from rap_evaluation.traffic.curve_speed import CurveDrivers
from rap_evaluation.traffic.light_tracks import light_state
from rap_evaluation.traffic.simulation import DT_S, simulation
from rap_raster.frames import Pose
from rap_raster.scene import Boxes, Lights, LightState

WARM_UP_S = 15.0
"""Before the ego appears: vehicles reach their speeds and queues form at lights."""

CLEAR_M = 25.0
"""Nobody is nearer to the ego when it appears: enough to brake for each other."""

SEEN_M = 150.0
"""Road users and lights this near to the ego are reported, along x and y separately."""

_PER_SECOND = round(1.0 / DT_S)


class World:
    """A running simulation with the ego in it."""

    def __init__(self, sumo: ModuleType, place: Place, route: Route, duration_s: float) -> None:
        """Warms traffic up and puts the ego at the start of its route.

        Args:
            sumo: libsumo, started on the place's network.
            place: Where.
            route: Of the ego; its seed is that of the traffic.
            duration_s: Longest drive.
        """
        self._sumo = sumo
        self._place = place
        self._demand = LocalDemand(sumo, place, duration_s=WARM_UP_S + duration_s, seed=route.seed)
        self._curves = CurveDrivers(sumo, place.bends)
        self._users = RoadUsers(sumo, place)
        self._vehicle = EgoVehicle(sumo, place, route)
        self._step = 0
        self._ego = Pose(*map(float, route.at(route.start_m)))
        for _ in range(round(WARM_UP_S / DT_S)):
            self._advance(CLEAR_M)
        self._demand.remove_within(CLEAR_M)
        sumo.simulationStep()
        self.step(self._ego)

    def step(self, ego: Pose) -> None:
        """Moves the ego and everybody else by one step of 0.1 s.

        Args:
            ego: Where the ego is at the end of the step, map frame.
        """
        self._ego = ego
        self._vehicle.move(ego)
        self._advance(APPEAR_M[0])
        self._users.step()

    @property
    def removed_stuck(self) -> int:
        """How many vehicles were taken out that stood in junctions."""
        return self._demand.removed_stuck

    def _advance(self, nearest_m: float) -> None:
        """Moves everybody; nobody appears nearer to the ego than said."""
        if self._step % _PER_SECOND == 0:
            here = front(self._ego) + self._place.network.offset_m
            self._demand.step_around(here, nearest_m)
        self._curves.step()
        self._sumo.simulationStep()
        self._step += 1

    def surroundings(self) -> Surroundings:
        """Returns what is around the ego now."""
        return Surroundings(self.boxes(SEEN_M), self._lights(), self.signals(self._place.turns))

    def boxes(self, radius_m: float) -> Boxes:
        """Returns the road users within a distance of the ego, along x and y separately."""
        return self._users.boxes(self._ego, radius_m)

    def signals(self, lane_ids: Iterable[str]) -> dict[str, LightState]:
        """Returns the lights of those mapped connectors that have one, by lane id."""
        text = self._light_text()
        turns = ((lane, self._place.turns.get(lane)) for lane in lane_ids)
        return {
            lane: light_state(text[turn.traffic_light][turn.link])
            for lane, turn in turns
            if turn is not None and turn.traffic_light is not None
        }

    def _light_text(self) -> dict[str, str]:
        lights = self._sumo.trafficlight
        return {key: lights.getRedYellowGreenState(key) for key in lights.getIDList()}

    def _lights(self) -> Lights:
        heads = self._place.heads
        here = np.array([self._ego.x_m, self._ego.y_m])
        near = np.abs(heads.centers_m[:, :2] - here).max(axis=1, initial=0.0) <= SEEN_M
        return Lights(
            heads.states(self._light_text())[near],
            heads.centers_m[near],
            heads.sizes_m[near],
            heads.yaws_rad[near],
        )


@contextmanager
def running_world(place: Place, route: Route, duration_s: float) -> Iterator[World]:
    """Starts a world and stops it at the end; there can be one at a time in a process."""
    with simulation(place.network, route.seed) as sumo:
        yield World(sumo, place, route, duration_s)
