"""The schema of the cases of the `pdm` command, and their arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from rap_evaluation.metrics.case_file import CaseError, CaseInput, Number, Pair, parse_input
from rap_evaluation.metrics.comfort import history_samples
from rap_evaluation.metrics.pdm_measures import Version
from rap_evaluation.metrics.pdm_scene import (
    DT_S,
    HORIZON_STEPS,
    STATE_SIZE,
    STATES,
    AgentKind,
    Agents,
    Area,
    AreaMap,
    PdmScene,
    RedLights,
)
from rap_evaluation.metrics.pdm_simulator import resample
from rap_raster.frames import FloatArray, to_local

AGENT_FRAMES = HORIZON_STEPS + 11
"""At 10 Hz: the horizon and the look-ahead of v1's time to collision."""

_HUMAN_DT_S = 0.5

_KINDS = {
    "vehicle": AgentKind.VEHICLE,
    "pedestrian": AgentKind.PEDESTRIAN,
    "bicycle": AgentKind.BICYCLE,
    "traffic_cone": AgentKind.STATIC,
    "barrier": AgentKind.STATIC,
    "czone_sign": AgentKind.STATIC,
    "generic_object": AgentKind.STATIC,
}

_LAYERS = {
    "ROADBLOCK": Area.ROADBLOCK,
    "INTERSECTION": Area.INTERSECTION,
    "CARPARK_AREA": Area.CARPARK,
    "LANE": Area.LANE,
    "LANE_CONNECTOR": Area.LANE_CONNECTOR,
}
"""Layers of nuPlan's map that are scored."""

AgentType = Literal[
    "vehicle", "pedestrian", "bicycle", "traffic_cone", "barrier", "czone_sign", "generic_object"
]
PoseList = Annotated[list[Number], Field(min_length=3, max_length=3)]
Ring = Annotated[list[Pair], Field(min_length=3)]
AgentState = Annotated[list[Number], Field(min_length=5, max_length=5)]
Length = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]


class EgoInput(CaseInput):
    """The rear axle; velocity and acceleration in the ego frame."""

    x: Number
    y: Number
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


class MapInput(CaseInput):
    """The areas around the ego; what else a map has is not scored."""

    roadblocks: list[AreaInput]
    roadblock_connectors: list[AreaInput] = Field(default_factory=list)
    lanes: list[AreaInput]
    lane_connectors: list[AreaInput] = Field(default_factory=list)
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
    candidates: dict[str, CandidateInput]
    reference: dict[Version, ReferenceInput]
    reactive_tracks: dict[str, dict[str, Track]] = Field(default_factory=dict)
    human_reactive_tracks: dict[str, Track] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PdmCase:
    """A case as arrays.

    Attributes:
        names: (C,) of the candidates.
        scene: Where they are scored, with all recorded agents.
        candidate_poses_m: (C, 41, 3) plans every 0.1 s, map frame.
        reference_poses_m: (41, 3) the plan whose progress theirs is compared with.
        history: (14, 11) states before now, see `comfort.history_samples`; None in v1.
        human_poses_m: (41, 3) what the human drove; None where unknown.
        reactive_agents: By candidate, what reactive traffic did beside it.
        human_reactive_agents: What it did beside the human.
    """

    names: tuple[str, ...]
    scene: PdmScene
    candidate_poses_m: FloatArray
    reference_poses_m: FloatArray
    history: FloatArray | None
    human_poses_m: FloatArray | None
    reactive_agents: dict[str, Agents]
    human_reactive_agents: Agents


def parse_case(content: object, version: Version) -> PdmCase:
    """Validates the input of a case and turns it into arrays.

    Raises:
        CaseError: If a field is missing or wrong; the text starts with the field's path.
    """
    case = parse_input(content, PdmInput)
    reference = case.reference.get(version)
    if reference is None:
        raise CaseError(f"input: reference.{version}: is missing")
    state = np.zeros(STATE_SIZE)
    ego = case.ego
    state[:7] = ego.x, ego.y, ego.heading, ego.vx, ego.vy, ego.ax, ego.ay
    areas = _area_map(case.map, reference)
    names = tuple(case.candidates)
    plans = [
        resample(np.array([case.candidates[name].poses]), case.candidates[name].dt, state[:3])
        for name in names
    ]
    return PdmCase(
        names=names,
        scene=PdmScene(
            initial_state=state,
            areas=areas,
            centerline_m=np.array(reference.centerline),
            agents=_agents(case.agents),
            red_lights=_red_lights(case.traffic_lights, areas),
        ),
        candidate_poses_m=np.concatenate([np.zeros((0, STATES, 3)), *plans]),
        reference_poses_m=np.array(reference.poses_10hz),
        history=_history(case.ego_history) if version == "v2" else None,
        human_poses_m=_human_poses(case.human_future, state[:3]) if version == "v2" else None,
        reactive_agents={
            name: _reactive_agents(case.agents, tracks, f"reactive_tracks.{name}")
            for name, tracks in case.reactive_tracks.items()
            if name in case.candidates
        },
        human_reactive_agents=_reactive_agents(
            case.agents, case.human_reactive_tracks, "human_reactive_tracks"
        ),
    )


def _area_map(areas: MapInput, reference: ReferenceInput) -> AreaMap:
    """Returns the areas near the ego: what the official code found within its radius."""
    layers = {
        "ROADBLOCK": areas.roadblocks,
        "INTERSECTION": areas.intersections,
        "CARPARK_AREA": areas.carparks,
        "LANE": areas.lanes,
        "LANE_CONNECTOR": areas.lane_connectors,
    }
    rings = {(layer, area.id): area.polygon for layer in layers for area in layers[layer]}
    rows = [(layer, key) for key, layer in reference.drivable_map if layer in _LAYERS]
    for layer, key in rows:
        if (layer, key) not in rings:
            raise CaseError(f"input: reference: drivable_map: the map has no {layer} '{key}'")
    if not rows:
        raise CaseError("input: reference: drivable_map: is empty")
    route = frozenset(reference.route_lane_ids)
    kinds = np.array([_LAYERS[layer] for layer, _ in rows], dtype=np.uint8)
    points = [np.array(rings[row]) for row in rows]
    return AreaMap(
        ids=tuple(key for _, key in rows),
        kinds=kinds,
        on_route=np.array([key in route for _, key in rows]) & (kinds >= Area.LANE),
        offsets=np.cumsum([0, *map(len, points)], dtype=np.int64),
        points_m=np.concatenate(points),
    )


def _agents(agents: Sequence[AgentInput]) -> Agents:
    states = np.full((len(agents), AGENT_FRAMES, 5), np.nan)
    for row, agent in zip(states, agents, strict=True):
        present = [index for index, state in enumerate(agent.states) if state is not None]
        row[present] = np.array([agent.states[index] for index in present]).reshape(-1, 5)
    return Agents(
        tokens=tuple(agent.token for agent in agents),
        kinds=np.array([_KINDS[agent.type] for agent in agents], dtype=np.uint8),
        sizes_m=np.array([[agent.length, agent.width] for agent in agents]).reshape(-1, 2),
        states=states,
    )


def _reactive_agents(
    recorded: Sequence[AgentInput], tracks: dict[str, Track], field: str
) -> Agents:
    """Returns simulated tracks of agents, with the velocity they were first recorded with."""
    known = {agent.token: agent for agent in recorded}
    for token in tracks:
        if token not in known:
            raise CaseError(f"input: {field}.{token}: is not among the agents")
    agents = _agents([known[token] for token in tracks])
    states = np.full((len(tracks), STATES, 5), np.nan)
    for row, track, past in zip(states, tracks.values(), agents.states, strict=True):
        present = [index for index, pose in enumerate(track) if pose is not None]
        row[present, :3] = np.array([track[index] for index in present]).reshape(-1, 3)
        row[present, 3:] = past[np.isfinite(past[:, 0]), 3:][:1]
    return Agents(agents.tokens, agents.kinds, agents.sizes_m, states)


def _red_lights(lights: Sequence[LightInput], areas: AreaMap) -> RedLights:
    """Returns the lights of connectors that are on the map."""
    connectors = {
        key: row
        for row, (key, kind) in enumerate(zip(areas.ids, areas.kinds, strict=True))
        if kind == Area.LANE_CONNECTOR
    }
    near = [light for light in lights if light.lane_connector_id in connectors]
    steps = np.minimum(np.arange(STATES)[:, None], [[len(light.red) - 1 for light in near]])
    red = [[light.red[k] for k in row] for light, row in zip(near, steps.T, strict=True)]
    return RedLights(
        areas=np.array([connectors[light.lane_connector_id] for light in near], dtype=np.int64),
        red=np.array(red, dtype=np.bool_).reshape(len(near), STATES),
    )


def _history(history: Sequence[HistoryInput]) -> FloatArray:
    rows = np.array([[s.t, s.x, s.y, s.heading, s.vx, s.vy, s.ax, s.ay] for s in history])
    rows = rows.reshape(-1, 8)
    if (np.diff(rows[:, 0]) <= 0).any():
        raise CaseError("input: ego_history: expected ascending times t")
    try:
        return history_samples(rows[:, 0], rows[:, 1:])
    except ValueError as error:
        raise CaseError(f"input: {error}") from error


def _human_poses(future: Sequence[PoseList], ego_pose: FloatArray) -> FloatArray | None:
    """Returns (41, 3) poses of a human's drive, poses 0.5 s apart in the map frame."""
    if not future:
        return None
    if len(future) * _HUMAN_DT_S < HORIZON_STEPS * DT_S:
        raise CaseError(f"input: human_future: {len(future)} poses every 0.5 s end before 4 s")
    poses: FloatArray = resample(to_local(ego_pose, np.array([future])), _HUMAN_DT_S, ego_pose)[0]
    return poses
