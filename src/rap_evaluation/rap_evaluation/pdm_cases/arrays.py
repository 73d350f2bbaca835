"""Cases of the `pdm` command as arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from rap_evaluation.metrics.case_file import CaseError, parse_input
from rap_evaluation.metrics.comfort import history_samples
from rap_evaluation.metrics.pdm import PdmCase
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
from rap_evaluation.pdm_cases.inputs import (
    AGENT_FRAMES,
    AgentInput,
    HistoryInput,
    LightInput,
    MapInput,
    PdmInput,
    PoseList,
    Track,
)
from rap_evaluation.pdm_cases.reference import (
    CaseRoute,
    found_route,
    given_route,
    layered,
    reference_plan,
)
from rap_raster.frames import FloatArray, to_local

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


def parse_case(content: object, version: Version) -> PdmCase:
    """Validates the input of a case and turns it into arrays.

    Raises:
        CaseError: If a field is missing or wrong; the text starts with the field's path.
    """
    case = parse_input(content, PdmInput)
    _check(case, version)
    ego = case.ego
    state = np.zeros(STATE_SIZE)
    state[:7] = ego.x, ego.y, ego.heading, ego.vx, ego.vy, ego.ax, ego.ay
    given = case.reference.get(version)
    route = given_route(given) if given is not None else found_route(case)
    areas = _area_map(case.map, route)
    scene = PdmScene(
        initial_state=state,
        areas=areas,
        centerline_m=route.centerline_m,
        agents=_agents(case.agents),
        red_lights=_red_lights(case.traffic_lights, areas),
    )
    names = tuple(case.candidates)
    plans = [
        resample(np.array([case.candidates[name].poses]), case.candidates[name].dt, state[:3])
        for name in names
    ]
    return PdmCase(
        names=names,
        scene=scene,
        candidate_poses_m=np.concatenate([np.zeros((0, STATES, 3)), *plans]),
        reference_poses_m=(
            np.array(given.poses_10hz) if given is not None else reference_plan(scene, route)
        ),
        history=_history(case.ego_history) if version == "v2" else None,
        human_poses_m=_human_poses(case.human_future, state[:3]) if version == "v2" else None,
        reactive_agents={
            name: _reactive_agents(case.agents, tracks, f"reactive_tracks.{name}")
            for name, tracks in case.reactive_tracks.items()
            if name in case.candidates
        },
        human_reactive_agents=(
            _reactive_agents(case.agents, case.human_reactive_tracks, "human_reactive_tracks")
            if case.human_reactive_tracks is not None
            else None
        ),
    )


def _check(case: PdmInput, version: Version) -> None:
    """Refuses what has no one meaning, and a v2 case that lacks the human's drive."""
    names = [("map", f"{layer} {key}") for (layer, key), _ in layered(case.map)]
    names += [("agents", agent.token) for agent in case.agents]
    (field, name), count = Counter(names).most_common(1)[0] if names else (("", ""), 0)
    if count > 1:
        raise CaseError(f"input: {field}: '{name}' is there {count} times")
    if version == "v2" and not case.human_future:
        raise CaseError("input: human_future: is missing or empty, v2 needs it")
    if version == "v2" and case.reactive_tracks and case.human_reactive_tracks is None:
        raise CaseError("input: human_reactive_tracks: is missing beside reactive_tracks")


def _area_map(areas: MapInput, route: CaseRoute) -> AreaMap:
    """Returns the areas near the ego."""
    rings = {key: area.polygon for key, area in layered(areas)}
    rows = [key for key in route.areas if key[0] in _LAYERS]
    for key in rows:
        if key not in rings:
            raise CaseError(f"input: reference: drivable_map: the map has no {' '.join(key)}")
    if not rows:
        raise CaseError("input: map: has no area near the ego")
    kinds = np.array([_LAYERS[layer] for layer, _ in rows], dtype=np.uint8)
    points = [np.array(rings[row]) for row in rows]
    return AreaMap(
        ids=tuple(key for _, key in rows),
        kinds=kinds,
        on_route=np.array([key in route.lane_ids for _, key in rows]) & (kinds >= Area.LANE),
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
    for row, (token, track), past in zip(states, tracks.items(), agents.states, strict=True):
        present = [index for index, pose in enumerate(track) if pose is not None]
        row[present, :3] = np.array([track[index] for index in present]).reshape(-1, 3)
        seen = np.isfinite(past[:, 0])
        if not seen.any():
            raise CaseError(f"input: agents: {token}: is absent in all states, but in {field}")
        row[present, 3:] = past[seen, 3:][:1]
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
