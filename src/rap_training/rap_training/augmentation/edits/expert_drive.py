"""What PDM-Closed drives from a moment of a log, and whether that is a label to learn from.

The planner foresees traffic by forecasts. Here it drives in closed loop while everybody else does
what the log says; the drive is then checked against that, not against what the planner foresaw.
"""

from __future__ import annotations

from enum import Enum

import numpy as np

from rap_evaluation.expert.pdm_closed import PdmClosed
from rap_evaluation.expert.road_areas import RoadAreas
from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.metrics import pdm_kernels as kernels
from rap_evaluation.metrics.comfort import COMFORT_BOUNDS
from rap_evaluation.metrics.pdm_measures import measure
from rap_evaluation.metrics.pdm_scene import DT_S, Agents, PdmScene, StateIndex
from rap_evaluation.metrics.pdm_simulator import resample, simulate
from rap_evaluation.moments import Moment
from rap_evaluation.pseudo_sim.log_scene import FRAMES, Way, log_scene
from rap_raster.frames import FloatArray, to_local
from rap_raster.scene import LightState

REPLAN_STEPS = 5
"""Half a second between plans."""

PROPOSAL_STEPS = 5
"""Half a second between the poses of a proposal. Source: RAP section 4.2."""

_BOUNDS = (COMFORT_BOUNDS[0], COMFORT_BOUNDS[1], COMFORT_BOUNDS[5])
"""Of the acceleration along and across, m/s^2, and the yaw rate, rad/s."""

_CLOSED = (LightState.RED, LightState.YELLOW)
"""Whoever passes at yellow is over the line when it is red."""


class Flaw(str, Enum):
    """Why a drive is no label. The values are for people."""

    COLLISION = "collision"
    OFF_ROAD = "off the road"
    RED_LIGHT = "red light"
    UNCOMFORTABLE = "uncomfortable"


class ExpertDrive:
    """Drives from moments of one log, edited or not."""

    def __init__(self, log: DriveLog) -> None:
        """Prepares the log's map."""
        self._areas = RoadAreas(log.map)
        self._planner = PdmClosed(log.map.lanes)

    def drive(self, moment: Moment, state: FloatArray, way: Way) -> FloatArray:
        """Drives for 5 s.

        Args:
            moment: Where the drive starts; its log tells who else is there.
            state: (11,) `StateIndex` state of the ego at the start.
            way: Where to go.

        Returns:
            (51, 11) states every 0.1 s, the first one among them.
        """
        states = [state]
        for later in range(0, FRAMES - 1, REPLAN_STEPS):
            now = Moment(moment.log, moment.seat, moment.step + later)
            scene, limits_mps = log_scene(now, states[-1], self._areas, way, _CLOSED)
            plan = self._planner.plan(scene, limits_mps)
            states += list(simulate(states[-1], plan[None])[0, 1 : REPLAN_STEPS + 1])
        return np.array(states)

    def flaw(self, moment: Moment, states: FloatArray, way: Way, edited: int) -> Flaw | None:
        """Says why (51, 11) driven states are no label, or None.

        Nobody may be touched, whoever is at fault, but by those who come from behind: replayed
        traffic does not see that the ego brakes.

        Args:
            moment: Where the drive starts.
            states: The drive.
            way: Where it was to go.
            edited: Id of the track that an edit has changed, 0 for none: it must not come from
                behind either.
        """
        scene, _ = log_scene(moment, states[0], self._areas, way)
        if _touches(scene.agents, states, str(edited)):
            return Flaw.COLLISION
        flaw = _broken_rule(scene, states) or _broken_rule(scene, _as_scored(states))
        return flaw or (None if _is_comfortable(states) else Flaw.UNCOMFORTABLE)


def _as_scored(states: FloatArray) -> FloatArray:
    """Returns the (41, 11) states of the drive as a proposal: a label must score well, too."""
    start = states[0, :3]
    proposal = to_local(start, states[PROPOSAL_STEPS::PROPOSAL_STEPS, :3])
    poses_m = resample(proposal[None], PROPOSAL_STEPS * DT_S, start)
    driven: FloatArray = simulate(states[0], poses_m)[0]
    return driven


def _broken_rule(scene: PdmScene, states: FloatArray) -> Flaw | None:
    """Returns what the PDM score finds wrong with (T, 11) states, among what rules a plan out."""
    found = measure(scene, states[None], "v1")
    if found.no_at_fault_collisions[0] < 1.0:
        return Flaw.COLLISION
    if found.drivable_area_compliance[0] < 1.0:
        return Flaw.OFF_ROAD
    return Flaw.RED_LIGHT if found.traffic_light_compliance[0] < 1.0 else None


def _touches(agents: Agents, states: FloatArray, edited: str) -> bool:
    """True if the ego's box touches that of an agent, unless the agent comes from behind."""
    touched = np.zeros(len(agents), dtype=np.bool_)
    replayed = np.array([token != edited for token in agents.tokens], dtype=np.bool_)
    for step, state in enumerate(states):
        touches = kernels.initial_overlaps(state, agents.states[:, step:], agents.sizes_m)
        behind = to_local(state[:3], agents.states[:, step, :3])[:, 0] < 0.0
        if (touches & ~touched & ~(behind & replayed)).any():
            return True
        touched |= touches
    return False


def _is_comfortable(states: FloatArray) -> bool:
    """True if accelerations and yaw rate keep the bounds of the comfort score after the start.

    The first state is the recorded one: how the log was driven is not the label's fault.
    """
    driven = states[1:]
    lateral = driven[:, StateIndex.VX] * driven[:, StateIndex.ANGULAR_VELOCITY]
    signals = (driven[:, StateIndex.AX], lateral, driven[:, StateIndex.ANGULAR_VELOCITY])
    return all(
        bool(((signal > low) & (signal < high)).all())
        for signal, (low, high) in zip(signals, _BOUNDS, strict=True)
    )
