"""SUMO's traffic, step by step, with the ego as one of its vehicles.

SUMO places the ego where the simulator of the ego says and lets everybody else react to it: they
brake behind it, and they give way to it at junctions as its route asks for. That needs its route to
be known to SUMO at all times; a vehicle that leaves its route loses it and gets it back here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np

from rap_evaluation.closed_loop.local_demand import EGO, LocalDemand
from rap_evaluation.closed_loop.place import Place
from rap_evaluation.closed_loop.routes import Route
from rap_evaluation.closed_loop.surroundings import Surroundings
from rap_evaluation.closed_loop.towing import TowedBox
from rap_evaluation.traffic.curve_speed import CurveDrivers
from rap_evaluation.traffic.demand import PEDESTRIAN_KIND, kind_of
from rap_evaluation.traffic.light_tracks import light_state
from rap_evaluation.traffic.simulation import DT_S, simulation
from rap_raster.frames import FloatArray, Pose
from rap_raster.scene import Boxes, Lights, LightState
from rap_raster.vehicle import PACIFICA

WARM_UP_S = 15.0
"""Before the ego appears: vehicles reach their speeds and queues form at lights."""

CLEAR_M = 25.0
"""Nobody is nearer to the ego when it appears: enough to brake for each other."""

SEEN_M = 150.0
"""Road users and lights this near to the ego are reported, along x and y separately."""

_MAY_LEAVE_NETWORK = 2  # Of moveToXY: the position holds exactly, on a lane or off it.
_PER_SECOND = round(1.0 / DT_S)


class World:
    """A running simulation around the ego."""

    def __init__(self, sumo: ModuleType, place: Place, route: Route, duration_s: float) -> None:
        """Prepares traffic and warms it up.

        Args:
            sumo: libsumo, started on the place's network.
            place: Where.
            route: Of the ego; its seed is that of the traffic.
            duration_s: Longest drive.
        """
        self._sumo = sumo
        self._place = place
        self._route = route
        self._demand = LocalDemand(sumo, place, duration_s=WARM_UP_S + duration_s, seed=route.seed)
        self._curves = CurveDrivers(sumo, place.bends)
        self._tracks: dict[str, tuple[int, TowedBox]] = {}
        self._sizes_m: dict[str, tuple[float, float, float]] = {}
        self._known = 0
        self._step = 0
        start = route.at(route.start_m)
        self._ego = Pose(*map(float, start))
        self._warm_up()

    def _warm_up(self) -> None:
        steps = round(WARM_UP_S / DT_S)
        for _ in range(steps):
            if self._step % _PER_SECOND == 0:
                self._demand.step_around(self._front(), CLEAR_M)
            self._advance()
        for domain in (self._sumo.vehicle, self._sumo.person):
            for key in domain.getIDList():
                if np.hypot(*(np.array(domain.getPosition(key)) - self._front())) < CLEAR_M:
                    domain.remove(key)
        self._insert_ego()

    def _insert_ego(self) -> None:
        """Adds the ego to SUMO."""
        sumo = self._sumo
        sumo.vehicletype.copy("car0", "ego")
        sumo.vehicletype.setLength("ego", PACIFICA.length_m)
        sumo.vehicletype.setWidth("ego", PACIFICA.width_m)
        self._edges = self._ego_edges()
        sumo.route.add("ego", self._edges)
        sumo.vehicle.add(EGO, "ego", "ego", departPos="0")
        self._move_ego()
        self._advance()
        self._track()

    def _ego_edges(self) -> tuple[str, ...]:
        """Returns the ego's route in SUMO: all turns, and what lies before, between and after."""
        route, simulation_ = self._route, self._sumo.simulation
        start, end = (
            simulation_.convertRoad(*(route.at(along_m)[:2] + self._place.network.offset_m))[0]
            for along_m in (route.start_m, route.along_m[-1])
        )
        edges = [start]
        for edge in (*route.edges, *(() if end.startswith(":") else (end,))):
            edges += simulation_.findRoute(edges[-1], edge, "ego").edges[1:]
        return tuple(edges)

    def step(self, ego: Pose) -> None:
        """Moves the ego and everybody else by one step of 0.1 s.

        Args:
            ego: Where the ego is at the end of the step, map frame.
        """
        self._ego = ego
        if self._step % _PER_SECOND == 0:
            self._demand.step_around(self._front())
        self._move_ego()
        self._advance()
        self._track()

    def _advance(self) -> None:
        self._curves.step()
        self._sumo.simulationStep()
        self._step += 1

    def _front(self) -> FloatArray:
        """Returns the (2,) middle of the ego's front bumper, network coordinates."""
        ahead_m = PACIFICA.rear_axle_to_center_m + 0.5 * PACIFICA.length_m
        ego = self._ego
        direction = np.array([np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)])
        return np.array([ego.x_m, ego.y_m]) + ahead_m * direction + self._place.network.offset_m

    def _move_ego(self) -> None:
        vehicle = self._sumo.vehicle
        x, y = self._front()
        if EGO in vehicle.getIDList():
            self._restore_route()
        degrees = (90.0 - np.degrees(self._ego.yaw_rad)) % 360.0  # Clockwise from north.
        vehicle.moveToXY(EGO, "", -1, x, y, degrees, _MAY_LEAVE_NETWORK)

    def _restore_route(self) -> None:
        """Gives the ego its route back if it has lost it and is on one of its edges again.

        SUMO takes no route in a junction.
        """
        vehicle = self._sumo.vehicle
        edges = vehicle.getRoute(EGO)
        if edges[-1] == self._edges[-1] or vehicle.getRoadID(EGO).startswith(":"):
            return
        here = edges[max(vehicle.getRouteIndex(EGO), 0)]
        if here in self._edges:
            vehicle.setRoute(EGO, self._edges[self._edges.index(here) :])

    def _track(self) -> None:
        """Updates the boxes of all road users but the ego."""
        tracks: dict[str, tuple[int, TowedBox]] = {}
        offset = self._place.network.offset_m
        for domain in (self._sumo.vehicle, self._sumo.person):
            for key in domain.getIDList():
                if key == EGO:
                    continue
                x, y = domain.getPosition(key)
                front, speed = (x - offset[0], y - offset[1]), domain.getSpeed(key)
                known = self._tracks.get(key)
                if known is None:
                    self._known += 1
                    yaw = np.radians(90.0 - domain.getAngle(key))
                    size = (domain.getLength(key), domain.getWidth(key), domain.getHeight(key))
                    self._sizes_m[key] = size
                    length = 0.0 if kind_of(key) is PEDESTRIAN_KIND else size[0]
                    known = self._known, TowedBox(front, yaw, speed, length)
                else:
                    known[1].step(front, speed, DT_S)
                tracks[key] = known
        self._tracks = tracks

    def surroundings(self) -> Surroundings:
        """Returns what is around the ego now."""
        return Surroundings(self.boxes(SEEN_M), self._lights(), self.signals())

    def boxes(self, radius_m: float) -> Boxes:
        """Returns the road users within a distance of the ego, along x and y separately."""
        rows = []
        for key, (number, box) in self._tracks.items():
            x, y = box.center_m
            if max(abs(x - self._ego.x_m), abs(y - self._ego.y_m)) <= radius_m:
                size, code = self._sizes_m[key], kind_of(key).object_class
                rows.append((number, code, x, y, 0.0, *size, box.yaw_rad, *box.velocity_mps))
        boxes = Boxes.from_rows(rows)
        if len(boxes):
            boxes.centers_m[:, 2] = self._ego.z_m
            boxes.centers_m[:, 2] = self._place.ground.height(boxes.centers_m)
            boxes.centers_m[:, 2] += 0.5 * boxes.sizes_m[:, 2]
        return boxes

    def signals(self) -> dict[str, LightState]:
        """Returns the light of every mapped connector that has one, by lane id."""
        text = self._light_text()
        return {
            lane: light_state(text[turn.traffic_light][turn.link])
            for lane, turn in self._place.turns.items()
            if turn.traffic_light is not None
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
