"""Road users of a running simulation as boxes on the map."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from rap_evaluation.closed_loop.ego_vehicle import EGO
from rap_evaluation.closed_loop.place import Place
from rap_evaluation.closed_loop.towing import TowedBox
from rap_evaluation.traffic.demand import PEDESTRIAN_KIND, kind_of
from rap_evaluation.traffic.simulation import DT_S
from rap_raster.frames import Pose
from rap_raster.scene import Boxes


@dataclass(slots=True)
class _RoadUser:
    """A road user; its box and SUMO's height of it change."""

    number: int
    code: int
    size_m: tuple[float, float, float]
    box: TowedBox
    z_m: float


class RoadUsers:
    """Follows everybody but the ego."""

    def __init__(self, sumo: ModuleType, place: Place) -> None:
        """Prepares to follow; `step` comes after every step of the simulation."""
        self._sumo = sumo
        self._place = place
        self._present: dict[str, _RoadUser] = {}
        self._seen = 0

    def step(self) -> None:
        """Takes over everybody's new position."""
        present = {}
        offset_x, offset_y = self._place.network.offset_m.tolist()
        for domain in (self._sumo.vehicle, self._sumo.person):
            for key in domain.getIDList():
                if key == EGO:
                    continue
                x, y, z = domain.getPosition3D(key)
                front_m, speed_mps = (x - offset_x, y - offset_y), domain.getSpeed(key)
                user = self._present.get(key)
                if user is None:
                    user = self._new(domain, key, (*front_m, z), speed_mps)
                else:
                    user.box.step(front_m, speed_mps, DT_S)
                    user.z_m = z
                present[key] = user
        self._present = present

    def _new(
        self, domain: ModuleType, key: str, front_m: tuple[float, float, float], speed_mps: float
    ) -> _RoadUser:
        self._seen += 1
        kind = kind_of(key)
        size_m = (domain.getLength(key), domain.getWidth(key), domain.getHeight(key))
        yaw_rad = float(np.radians(90.0 - domain.getAngle(key)))  # Clockwise from north.
        length_m = 0.0 if kind is PEDESTRIAN_KIND else size_m[0]
        box = TowedBox(front_m[:2], yaw_rad, speed_mps, length_m)
        return _RoadUser(self._seen, kind.object_class, size_m, box, front_m[2])

    def boxes(self, ego: Pose, radius_m: float) -> Boxes:
        """Returns those within a distance of the ego, along x and y separately.

        All stand on the road that SUMO has them on, bridges included.
        """
        rows = []
        for user in self._present.values():
            x, y = user.box.center_m
            if abs(x - ego.x_m) <= radius_m and abs(y - ego.y_m) <= radius_m:
                motion = (user.box.yaw_rad, *user.box.velocity_mps)
                rows.append((user.number, user.code, x, y, user.z_m, *user.size_m, *motion))
        boxes = Boxes.from_rows(rows)
        if rows:
            ground_m = self._place.ground.height(boxes.centers_m)
            boxes.centers_m[:, 2] = ground_m + 0.5 * boxes.sizes_m[:, 2]
        return boxes
