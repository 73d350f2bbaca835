"""One route driven by one planner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np

from rap_evaluation.closed_loop.ego import Ego
from rap_evaluation.closed_loop.events import Events, Watch
from rap_evaluation.closed_loop.place import Place
from rap_evaluation.closed_loop.routes import Route
from rap_evaluation.closed_loop.world import World, running_world
from rap_evaluation.metrics.pdm_scene import DT_S, StateIndex
from rap_evaluation.planners.observation import (
    Observation,
    Plan,
    PlanError,
    Planner,
    Surroundings,
    checked_plan,
)
from rap_raster.ego_history import EgoHistory, EgoState
from rap_raster.frames import FloatArray

START_SPEED_MPS = 5.0
"""The ego enters a flow of traffic; a standing start would be hit from behind."""

GOAL_M = 3.0
"""A route ends this far before its goal: 1 % of the shortest. Source: Bench2Drive, which asks for
99 %."""

ARRIVED_M = 10.0
"""Less than this from the route's line. Source: Bench2Drive: less than that from the target."""

MAX_DEVIATION_M = 30.0
"""Farther from the route, the drive has failed. Source: Bench2Drive."""

BLOCKED_S, BLOCKED_MPS = 60.0, 0.1
"""So long so slow, it is blocked. Source: Bench2Drive."""

MIN_TIMEOUT_S, TIMEOUT_S_PER_M = 300.0, 0.8
"""Time for a route. Source: CARLA leaderboard, `route_scenario.py`."""

SIMULATION_ERROR = "simulation: "
"""Begin of the failure of a drive that ended because the simulation did."""

_SEARCH_M = 10.0  # Progress on the route within one step: more than any vehicle drives in it.
_CONTACT_M = 20.0  # Centres of whatever touches the ego are nearer.


class DriveError(ValueError):
    """A drive has failed; the text says why."""


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What was planned, on what grounds.

    Attributes:
        ego: State.
        surroundings: Of the ego.
        plan: Made then, without its images.
        jpegs: Those images, compressed, by camera.
    """

    ego: EgoState
    surroundings: Surroundings
    plan: Plan
    jpegs: Mapping[str, bytes]

    @classmethod
    def of(cls, observation: Observation, plan: Plan) -> Glimpse:
        """Keeps a plan; pictures are compressed, since a drive may have thousands."""
        jpegs = {
            name: cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()
            for name, image in plan.images.items()
        }
        return cls(observation.ego, observation.surroundings, replace(plan, images={}), jpegs)


@dataclass(frozen=True, slots=True)
class Drive:
    """What happened on a route.

    Attributes:
        route: The route.
        failure: Why the ego did not arrive; empty if it did.
        states: (n, 11) ego states every 0.1 s, `StateIndex` columns, the start included.
        along_m: (n,) where on the route's line the ego was.
        events: What went wrong.
        glimpses: One per plan.
        removed_stuck: How many vehicles were taken out that stood in junctions, see `STUCK_S`.
    """

    route: Route
    failure: str
    states: FloatArray
    along_m: FloatArray
    events: Events
    glimpses: tuple[Glimpse, ...]
    removed_stuck: int = 0

    @property
    def seconds(self) -> float:
        """How long it took."""
        return DT_S * (len(self.states) - 1)


def drive(place: Place, route: Route, planner: Planner, *, replan_hz: int) -> Drive:
    """Drives a route to its goal or to the failure that ends it.

    Args:
        place: Where.
        route: Which way.
        planner: Who drives. What it raises ends this drive and no other.
        replan_hz: How often a second the planner is asked; divides 10. If it answers with the plan
            that is being driven, the same object, that one is gone on with.
    """
    timeout_s = max(MIN_TIMEOUT_S, TIMEOUT_S_PER_M * route.length_m)
    run, failure, removed = _Run(place, route, planner), "", 0
    try:
        with running_world(place, route, timeout_s) as world:
            while not run.arrived:
                run.step(world, round(1.0 / DT_S / replan_hz))
                run.check(timeout_s)
                removed = world.removed_stuck
    except (DriveError, PlanError) as error:
        failure = str(error)
    except Exception as error:  # SUMO's errors have no type of their own; other routes go on.
        failure = f"{SIMULATION_ERROR}{type(error).__name__}: {error}"
    return Drive(
        route=route,
        failure=failure,
        states=np.array(run.states),
        along_m=np.array(run.along_m),
        events=run.watch.events,
        glimpses=tuple(run.glimpses),
        removed_stuck=removed,
    )


class _Run:
    """A drive that is under way."""

    def __init__(self, place: Place, route: Route, planner: Planner) -> None:
        self._route = route
        self._planner = planner
        self._ego = Ego(route.at(route.start_m), START_SPEED_MPS, place.ground)
        self._history = EgoHistory()
        self._history.add(self._ego.ego_state)
        self._slow_steps = 0
        self._deviation_m = 0.0
        self._followed: Plan | None = None
        self.watch = Watch(place, route)
        self.states = [self._ego.state]
        self.along_m = [route.start_m]
        self.glimpses: list[Glimpse] = []

    @property
    def arrived(self) -> bool:
        """True at the goal."""
        reached = self.along_m[-1] >= self._route.goal_m - GOAL_M
        return reached and self._deviation_m < ARRIVED_M

    def step(self, world: World, plan_every: int) -> None:
        """Drives one step, planning first where a plan is due."""
        ego = self._ego
        if ego.step % plan_every == 0:
            self._plan(world)
        ego.advance()
        self._history.add(ego.ego_state)
        world.step(ego.ego_state.pose)
        self._project()
        boxes, signals = world.boxes(_CONTACT_M), world.signals(self._route.junctions)
        self.watch.step(ego.step, ego.state, self.along_m[-1], boxes, signals)
        self.states.append(ego.state)
        slow = abs(ego.state[StateIndex.VX]) < BLOCKED_MPS
        self._slow_steps = self._slow_steps + 1 if slow else 0

    def check(self, timeout_s: float) -> None:
        """Ends the drive where it leads nowhere."""
        if self._slow_steps * DT_S >= BLOCKED_S:
            raise DriveError(f"blocked for {BLOCKED_S:g} s")
        if self._deviation_m > MAX_DEVIATION_M:
            raise DriveError(f"more than {MAX_DEVIATION_M:g} m from the route")
        if self._ego.step * DT_S >= timeout_s:
            raise DriveError(f"not there after {timeout_s:.0f} s")

    def _plan(self, world: World) -> None:
        ego = self._ego
        observation = Observation(
            ego=ego.ego_state,
            state=ego.state,
            history=self._history,
            surroundings=world.surroundings(),
            road=self._route,
            along_m=self.along_m[-1],
        )
        plan = checked_plan(self._planner, observation)
        if plan is self._followed:
            return
        self._followed = plan
        ego.follow(plan.poses_m, plan.dt_s, plan.start_m)
        self.glimpses.append(Glimpse.of(observation, plan))

    def _project(self) -> None:
        """Finds the ego on the route, near where it was."""
        route = self._route
        near = np.flatnonzero(np.abs(route.along_m - self.along_m[-1]) <= _SEARCH_M)
        gaps_m = np.hypot(*(route.line_m[near, :2] - self._ego.state[:2]).T)
        nearest = int(gaps_m.argmin())
        self._deviation_m = float(gaps_m[nearest])
        self.along_m.append(float(route.along_m[near[nearest]]))
