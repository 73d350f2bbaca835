"""Who is on the road: seeded road users with long random routes.

Vehicles get a chain of destinations that outlasts the recording, so the traffic neither thins out
nor do cars vanish in front of the ego. Pedestrians walk one random way and are replaced on arrival.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType

import numpy as np

from rap_evaluation.traffic.network import Network
from rap_raster.scene import ObjectClass

_VARIANTS = 8  # Sizes per class: enough that neighbours rarely look alike.
_ROUTE_ATTEMPTS = 20
_ROUTE_SPEED_MPS = 20.0  # Routes are long enough for this mean speed; towns allow less.


@dataclass(frozen=True, slots=True)
class RoadUserKind:
    """How one class of road users looks and drives; (low, high) are drawn evenly.

    Attributes:
        name: Prefix of SUMO ids.
        object_class: Class of its boxes.
        sumo_class: SUMO's vehicle class, which decides on allowed lanes.
        share: Part of all vehicles.
        length_m: Range.
        width_m: Range.
        height_m: Range.
        accel_mps2: Range of the usual acceleration.
        decel_mps2: Range of the comfortable deceleration.
        max_speed_mps: Top speed.
    """

    name: str
    object_class: ObjectClass
    sumo_class: str
    share: float
    length_m: tuple[float, float]
    width_m: tuple[float, float]
    height_m: tuple[float, float]
    accel_mps2: tuple[float, float]
    decel_mps2: tuple[float, float]
    max_speed_mps: float


VEHICLE_KINDS = (
    RoadUserKind("car", ObjectClass.VEHICLE, "passenger", 0.72, (3.9, 5.2), (1.7, 2.05),
                 (1.4, 1.95), (1.4, 2.6), (2.5, 4.0), 50.0),
    RoadUserKind("truck", ObjectClass.TRUCK, "truck", 0.09, (6.5, 9.5), (2.2, 2.5),
                 (2.6, 3.8), (0.9, 1.4), (2.0, 3.0), 25.0),
    RoadUserKind("bus", ObjectClass.BUS, "bus", 0.05, (10.5, 12.2), (2.5, 2.55),
                 (3.0, 3.4), (0.9, 1.2), (2.0, 3.0), 23.0),
    RoadUserKind("motorcycle", ObjectClass.MOTORCYCLE, "motorcycle", 0.07, (2.0, 2.4),
                 (0.75, 0.9), (1.4, 1.7), (2.0, 3.5), (3.0, 5.0), 50.0),
    RoadUserKind("bicycle", ObjectClass.BICYCLE, "bicycle", 0.07, (1.6, 1.9), (0.55, 0.7),
                 (1.6, 1.85), (0.8, 1.2), (2.0, 3.0), 6.5),
)  # fmt: skip
"""Sizes: usual European vehicle dimensions; driving: around SUMO's defaults, spread."""

PEDESTRIAN_KIND = RoadUserKind("person", ObjectClass.PEDESTRIAN, "pedestrian", 0.0, (0.4, 0.6),
                               (0.45, 0.7), (1.2, 1.9), (1.0, 1.5), (1.5, 2.0), 1.9)  # fmt: skip

_KINDS = {kind.name: kind for kind in (*VEHICLE_KINDS, PEDESTRIAN_KIND)}


def kind_of(sumo_id: str) -> RoadUserKind:
    """Returns the kind of a road user by its SUMO id, such as "bus.12"."""
    return _KINDS[sumo_id.split(".", maxsplit=1)[0]]


def type_file(rng: np.random.Generator) -> str:
    """Returns a SUMO additional file with vehicle types, sizes drawn from `rng`."""
    rows = [
        _type_row(kind, variant, rng) for kind in _KINDS.values() for variant in range(_VARIANTS)
    ]
    return "<additional>\n" + "\n".join(rows) + "\n</additional>\n"


def _type_row(kind: RoadUserKind, variant: int, rng: np.random.Generator) -> str:
    length, width, height, accel, decel = (
        round(float(rng.uniform(*span)), 2)
        for span in (kind.length_m, kind.width_m, kind.height_m, kind.accel_mps2, kind.decel_mps2)
    )
    # Drivers differ by some 12 % in speed and are imperfect (SUMO's sigma), so speeds vary.
    return (
        f'<vType id="{kind.name}{variant}" vClass="{kind.sumo_class}" length="{length}" '
        f'width="{width}" height="{height}" accel="{accel}" decel="{decel}" '
        f'maxSpeed="{kind.max_speed_mps}" sigma="0.5" '
        f'speedFactor="normc(1.0,0.12,0.65,1.35)" minGap="{rng.uniform(1.5, 3.0):.2f}"/>'
    )


class Demand:
    """Keeps a number of road users moving on a network."""

    def __init__(
        self,
        sumo: ModuleType,
        network: Network,
        *,
        vehicles: int,
        pedestrians: int,
        duration_s: float,
        seed: int,
    ) -> None:
        """Prepares demand for a running simulation.

        Args:
            sumo: libsumo, started with `type_file`.
            network: Its network.
            vehicles: How many vehicles to keep on the road.
            pedestrians: How many people to keep walking.
            duration_s: Length of the whole simulation.
            seed: Of all random choices.
        """
        self.sumo = sumo
        self.network = network
        self._duration_s = duration_s
        self.rng = np.random.default_rng(seed)
        self._added = 0
        self.want(vehicles, pedestrians)
        self._usable = frozenset(network.driving_edges)
        lengths = np.array([network.edge_lengths_m[e] for e in network.driving_edges])
        self._edge_weights = lengths / lengths.sum()

    def want(self, vehicles: int, pedestrians: int) -> None:
        """Changes how many vehicles are kept on the road and people walking."""
        self._wanted = {kind.name: _count(kind, vehicles) for kind in VEHICLE_KINDS}
        self._wanted["car"] += vehicles - sum(self._wanted.values())
        self._wanted["person"] = pedestrians

    def step(self) -> None:
        """Adds who is missing; call it once a second."""
        names = (*self.sumo.vehicle.getIDList(), *self.sumo.person.getIDList())
        present = [name.split(".")[0] for name in names]
        for name, wanted in self._wanted.items():
            # A few a second: more would not find room, and all at once would bunch.
            for _ in range(min(wanted - present.count(name), 5)):
                if name == PEDESTRIAN_KIND.name:
                    self._add_person()
                else:
                    self._add_vehicle(name)

    def _next_id(self, name: str) -> tuple[str, str]:
        self._added += 1
        return f"{name}.{self._added}", f"{name}{int(self.rng.integers(_VARIANTS))}"

    def _add_vehicle(self, name: str) -> None:
        vehicle, vehicle_type = self._next_id(name)
        start, position = self.vehicle_start()
        edges = self._long_route(start, vehicle_type)
        if not edges:
            return
        self.sumo.route.add(f"route.{vehicle}", edges)
        self.sumo.vehicle.add(
            vehicle, f"route.{vehicle}", vehicle_type,
            departLane="best", departPos=position, departSpeed="avg",
        )  # fmt: skip

    def vehicle_start(self) -> tuple[str, str]:
        """Returns the edge where the next vehicle starts and SUMO's word for the position on it."""
        return self._random_edge(), "random_free"

    def walk(self) -> tuple[str, float | None, str]:
        """Returns where the next person starts and wants to go.

        Those are an edge, the metres along it, None for anywhere, and the edge of the goal.
        """
        edges = self.network.walking_edges
        start, end = (edges[int(self.rng.integers(len(edges)))] for _ in range(2))
        return start, None, end

    def _long_route(self, start: str, vehicle_type: str) -> list[str]:
        """Returns edges through random destinations, enough for the rest of the simulation."""
        remaining_s = self._duration_s - self.sumo.simulation.getTime()
        edges = self._random_route(start, vehicle_type)
        length_m = sum(self.network.edge_lengths_m[edge] for edge in edges)
        while edges and length_m < _ROUTE_SPEED_MPS * remaining_s:
            onward = self._random_route(edges[-1], vehicle_type)
            if not onward:
                break
            edges += onward[1:]
            length_m += sum(self.network.edge_lengths_m[edge] for edge in onward[1:])
        return edges

    def _random_edge(self) -> str:
        chosen = self.rng.choice(len(self.network.driving_edges), p=self._edge_weights)
        return self.network.driving_edges[int(chosen)]

    def _random_route(self, start: str, vehicle_type: str) -> list[str]:
        """Returns edges from `start` to somewhere on mapped lanes only; empty if none is found."""
        for _ in range(_ROUTE_ATTEMPTS):
            stage = self.sumo.simulation.findRoute(start, self._random_edge(), vehicle_type)
            edges = list(stage.edges)
            turns = set(pairwise(edges))
            if (
                len(edges) > 1
                and self._usable.issuperset(edges)
                and not turns & self.network.closed_turns
            ):
                return edges
        return []

    def _add_person(self) -> None:
        start, along_m, end = self.walk()
        person, person_type = self._next_id("person")
        stages = self.sumo.simulation.findIntermodalRoute(start, end, "", pType=person_type)
        if not stages or any(stage.type != self.sumo.constants.STAGE_WALKING for stage in stages):
            return
        if along_m is None:
            along_m = float(self.rng.uniform(0.0, self.sumo.lane.getLength(f"{start}_0")))
        self.sumo.person.add(person, start, along_m, typeID=person_type)
        for stage in stages:
            self.sumo.person.appendWalkingStage(person, stage.edges, stage.arrivalPos)


def _count(kind: RoadUserKind, vehicles: int) -> int:
    """Rounds a kind's number up, so that a small world still has one of each."""
    return int(np.ceil(kind.share * vehicles)) if kind.name != "car" else 0
