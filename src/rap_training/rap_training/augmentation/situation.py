"""What the ego sees and should do: everything a sample is made of, before it is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rap_evaluation.moments import Moment
from rap_planner.route import Command
from rap_raster.camera import CameraModel
from rap_raster.ego_history import EgoState
from rap_raster.frames import FloatArray
from rap_raster.geometry import Geometry, place_seen
from rap_raster.scene import Boxes, Lights, Scene
from rap_raster.styles import Style
from rap_raster.vehicle import VehicleDimensions


class SourceKind(IntEnum):
    """Where a sample comes from; the value is the code in samples."""

    EGO = 0
    RECOVERY = 1
    CROSS_AGENT = 2
    EDIT = 3


class Drop(str, Enum):
    """Why a start gave no sample. The values are for people."""

    STANDING = "stands"
    STEADY = "straight on at constant speed"
    CLASS = "class left out by its share"
    NO_MOTION = "track too short or too noisy to drive along"
    INFEASIBLE = "no way back that a car can drive in comfort"
    COLLISION = "every way back touches a road user"
    OFF_ROAD = "every way back leaves the drivable area"
    RED_LIGHT = "starts beyond a red light"
    NO_MAP = "no drivable area is known"


DROPS = tuple(Drop)
"""Order of the drop counts in samples."""


@dataclass(frozen=True, slots=True)
class Situation:
    """One ego at one instant, as recorded or changed; T steps of the log ahead.

    Attributes:
        kind: Where it comes from.
        moment: The recorded moment it is made of.
        ego: State of the ego now, which may never have been recorded.
        boxes: Other road users, the ego not among them.
        lights: Traffic lights.
        history: (S, 7) float32 rows of `rap_raster.ego_history.HISTORY_COLUMNS`, the last one now.
        path_m: (T, 3) x, y, yaw to drive, one step of the log apart, in the frame of `ego`.
        command: What the route asks for.
        details: Figures of what was changed, for people; empty where nothing was.
    """

    kind: SourceKind
    moment: Moment
    ego: EgoState
    boxes: Boxes
    lights: Lights
    history: npt.NDArray[np.float32]
    path_m: FloatArray
    command: Command
    details: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def vehicle(self) -> VehicleDimensions:
        """The ego's outer dimensions."""
        return self.moment.log.dimensions(self.moment.seat)

    @property
    def route_m(self) -> FloatArray | None:
        """The (n, 3) route around the ego, map frame; None where it is not known."""
        # Edited logs know a seat for some steps only; its route goes by all of them.
        log, seat = self.moment.log.origin, self.moment.seat
        route = log.driven_route(seat)
        return None if route is None else route.stretch(self.moment.step - log.first_step(seat))

    def future_m(self, steps: int, dt_s: float) -> FloatArray:
        """Returns the (steps, 3) poses to drive, `dt_s` apart, in the frame of the ego."""
        stride = round(dt_s / self.moment.log.dt_s)
        return self.path_m[stride - 1 : stride * steps : stride]

    def scene(self) -> Scene:
        """Returns all that can be drawn."""
        return self.moment.log.scene_around(self.ego.pose, self.boxes, self.lights)

    def geometry(self, style: Style) -> Geometry:
        """Returns what `style` draws of `scene`, but for lights that shine elsewhere."""
        ground = self.moment.log.ground(style)
        return place_seen(ground, self.ego.pose, self.boxes, self.lights, style)

    def camera_image(self, camera: CameraModel, seed: int) -> npt.NDArray[np.uint8]:
        """Returns the (H, W, 3) rgb a camera would see, in the light and noise of a seed."""
        simulator = self.moment.log.camera_simulator
        return simulator.image(self.ego.pose, self.boxes, self.lights, camera, seed=seed)


class Source(Protocol):
    """Makes situations of one kind from starts in logs.

    Attributes:
        kind: What it makes.
        loss_weight: Of the imitation loss of its samples.
    """

    @property
    def kind(self) -> SourceKind: ...  # noqa: D102
    @property
    def loss_weight(self) -> float: ...  # noqa: D102

    def __len__(self) -> int:
        """Returns the number of starts."""

    def moment(self, start: int) -> Moment:
        """Returns where a start is."""

    def situation(self, start: int, rng: np.random.Generator) -> Situation | Drop:
        """Makes the situation of a start, or says why there is none this time."""
