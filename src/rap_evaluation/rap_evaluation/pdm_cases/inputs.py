"""The schema of the cases of the `pdm` command."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rap_evaluation.metrics.case_file import CaseInput, Number
from rap_evaluation.metrics.pdm_measures import Version
from rap_evaluation.metrics.pdm_scene import DT_S, HORIZON_STEPS, STATES

AGENT_FRAMES = HORIZON_STEPS + 11
"""At 10 Hz: the horizon and the look-ahead of v1's time to collision."""

AgentType = Literal[
    "vehicle", "pedestrian", "bicycle", "traffic_cone", "barrier", "czone_sign", "generic_object"
]
LARGEST_M = 2e7
"""Of coordinates: UTM northings reach 1e7 m."""

Coordinate = Annotated[float, Field(ge=-LARGEST_M, le=LARGEST_M, allow_inf_nan=False)]
Pair = Annotated[list[Coordinate], Field(min_length=2, max_length=2)]
PoseList = Annotated[list[Coordinate], Field(min_length=3, max_length=3)]
Ring = Annotated[list[Pair], Field(min_length=3)]
Line = Annotated[list[Pair], Field(min_length=2)]
AgentState = Annotated[list[Number], Field(min_length=5, max_length=5)]
Length = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]


class EgoInput(CaseInput):
    """The rear axle; velocity and acceleration in the ego frame."""

    x: Coordinate
    y: Coordinate
    heading: Number
    vx: Number
    vy: Number
    ax: Number
    ay: Number


class HistoryInput(EgoInput):
    """A state of the rear axle at `t` seconds, 0 is now."""

    t: Number


class AreaInput(CaseInput):
    """A named area."""

    id: str
    polygon: Ring


class LaneInput(AreaInput):
    """A lane; only its polygon is scored, the rest serves to find a reference plan."""

    roadblock_id: str = ""
    centerline: Line | None = None
    speed_limit_mps: Number | None = None


class ConnectorInput(AreaInput):
    """A lane across a junction; see `LaneInput`."""

    roadblock_connector_id: str = ""
    from_lane: str = ""
    to_lane: str = ""
    centerline: Line | None = None
    speed_limit_mps: Number | None = None


class MapInput(CaseInput):
    """The areas around the ego."""

    roadblocks: list[AreaInput]
    roadblock_connectors: list[AreaInput] = Field(default_factory=list)
    lanes: list[LaneInput]
    lane_connectors: list[ConnectorInput] = Field(default_factory=list)
    intersections: list[AreaInput] = Field(default_factory=list)
    carparks: list[AreaInput] = Field(default_factory=list)


class AgentInput(CaseInput):
    """A recorded agent: 51 frames of x, y, heading, vx, vy, None where it is absent."""

    token: str
    type: AgentType
    length: Length
    width: Length
    states: Annotated[
        list[AgentState | None], Field(min_length=AGENT_FRAMES, max_length=AGENT_FRAMES)
    ]


class LightInput(CaseInput):
    """When a lane connector is closed."""

    lane_connector_id: str
    red: Annotated[list[bool], Field(min_length=1)]


class CandidateInput(CaseInput):
    """A plan in the ego frame."""

    dt: Length
    poses: Annotated[list[PoseList], Field(min_length=1)]

    @model_validator(mode="after")
    def _long_enough(self) -> CandidateInput:
        reach = len(self.poses) * self.dt
        if reach < HORIZON_STEPS * DT_S - 1e-6:
            raise ValueError(f"{len(self.poses)} poses every {self.dt:g} s end before 4 s")
        return self


class ReferenceInput(CaseInput):
    """What the official code derives from the map: the plan to compare progress with."""

    poses_10hz: Annotated[list[PoseList], Field(min_length=STATES, max_length=STATES)]
    centerline: Annotated[list[PoseList], Field(min_length=2)]
    route_lane_ids: list[str]
    drivable_map: list[Annotated[list[str], Field(min_length=2, max_length=2)]]


Track = Annotated[list[PoseList | None], Field(min_length=STATES, max_length=STATES)]


class PdmInput(CaseInput):
    """A scenario and the plans to score in it."""

    map: MapInput
    ego: EgoInput
    ego_history: list[HistoryInput] = Field(default_factory=list)
    human_future: list[PoseList] = Field(default_factory=list)
    agents: list[AgentInput]
    traffic_lights: list[LightInput] = Field(default_factory=list)
    candidates: Annotated[dict[str, CandidateInput], Field(min_length=1)]
    route_roadblock_ids: list[str] = Field(default_factory=list)
    reference: dict[Version, ReferenceInput] = Field(default_factory=dict)
    reactive_tracks: dict[str, dict[str, Track]] = Field(default_factory=dict)
    human_reactive_tracks: dict[str, Track] | None = None
