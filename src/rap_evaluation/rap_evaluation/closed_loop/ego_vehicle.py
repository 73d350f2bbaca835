"""The ego as one of SUMO's vehicles, so that all others react to it.

They brake behind it anyway; that they give way to it at junctions needs its route to be known to
SUMO at all times. A vehicle that is placed beside its route loses it, and gets it back here.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from rap_evaluation.closed_loop.place import Place
from rap_evaluation.closed_loop.routes import Route
from rap_raster.frames import FloatArray, Pose
from rap_raster.vehicle import PACIFICA

EGO = "car.0"
"""SUMO's id of the ego: to the bookkeeping of road users it is a car."""

FRONT_M = PACIFICA.rear_axle_to_center_m + 0.5 * PACIFICA.length_m
"""Rear axle to front bumper, where SUMO has the position of a vehicle."""

_TYPE, _ROUTE = "ego", "ego"
_NEAREST_LANE = 0
"""Of moveToXY: the ego is put on the nearest lane. To the others only the place along it matters,
and SUMO 1.28 crashes on vehicles that leave the network in a junction."""


class EgoVehicle:
    """Places the ego in a running simulation."""

    def __init__(self, sumo: ModuleType, place: Place, route: Route) -> None:
        """Makes the ego known to SUMO; it appears with the first `move`."""
        self._sumo = sumo
        self._place = place
        sumo.vehicletype.copy("car0", _TYPE)
        sumo.vehicletype.setLength(_TYPE, PACIFICA.length_m)
        sumo.vehicletype.setWidth(_TYPE, PACIFICA.width_m)
        self._edges = self._sumo_route(route)
        sumo.route.add(_ROUTE, self._edges)

    def _sumo_route(self, route: Route) -> tuple[str, ...]:
        """Returns the edges of all turns, and those that lie before, between and after them."""
        simulation = self._sumo.simulation
        start, end = (
            simulation.convertRoad(*(route.at(along_m)[:2] + self._place.network.offset_m))[0]
            for along_m in (route.start_m, route.along_m[-1])
        )
        edges = [start]
        for edge in (*route.edges, end):
            if not edge.startswith(":"):  # The line may end in a junction.
                edges += simulation.findRoute(edges[-1], edge, _TYPE).edges[1:]
        return tuple(edges)

    def move(self, pose: Pose) -> None:
        """Says where the ego is after the next step of the simulation.

        Args:
            pose: Of the rear axle, map frame.
        """
        vehicle = self._sumo.vehicle
        if EGO in vehicle.getIDList():
            self._restore_route()
        else:  # Before the first step; or SUMO has taken it out at the end of a road off the route.
            vehicle.add(EGO, _ROUTE, _TYPE)
        x, y = front(pose) + self._place.network.offset_m
        degrees = (90.0 - np.degrees(pose.yaw_rad)) % 360.0  # Clockwise from north.
        vehicle.moveToXY(EGO, "", -1, x, y, degrees, _NEAREST_LANE)

    def _restore_route(self) -> None:
        vehicle = self._sumo.vehicle
        edges = vehicle.getRoute(EGO)
        in_junction = vehicle.getRoadID(EGO).startswith(":")  # SUMO takes no route there.
        if edges[-1] == self._edges[-1] or in_junction:
            return
        here = edges[max(vehicle.getRouteIndex(EGO), 0)]
        if here in self._edges:
            vehicle.setRoute(EGO, self._edges[self._edges.index(here) :])


def front(pose: Pose) -> FloatArray:
    """Returns the (2,) middle of the front bumper, map frame."""
    direction = np.array([np.cos(pose.yaw_rad), np.sin(pose.yaw_rad)])
    return np.array([pose.x_m, pose.y_m]) + FRONT_M * direction
