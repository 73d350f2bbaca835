"""Plays a bag through the real node processes and measures what they answer.

The nodes are the ones of the vehicle: perception, raster and planner in one process, the guard in
another. This process only plays, records and counts; the definitions of what it counts are in
`rap_bringup.summary`.

Drive time is simulated. It runs at most at the asked rate, and a step waits until the step before
it is planned: a busy machine makes the replay slower (`real_time_factor` says how much) and does
not change which steps are answered. Latencies are wall times, so slowness shows there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rap_bringup.answers import GUARD_STATES, Answers, Arrival, ReplayResult
from rap_bringup.bag_reader import (
    Bag,
    RecordedMessage,
    messages,
    open_bag,
    read_odometry,
    step_stamps,
)
from rap_bringup.bag_types import raw_stamp_ns
from rap_bringup.bags import BagError
from rap_bringup.graph_params import RASTER, Params, replay_params, slots_of_bag, write_params
from rap_bringup.processes import (
    DRIVE_MODULE,
    GUARD_MODULE,
    NodeProcess,
    ProcessError,
    graph_environment,
    start,
    stop_all,
    stop_requests,
)
from rap_bringup.recording import OUTPUT_TYPES, Recording
from rap_bringup.ros.player import PlayerHooks
from rap_bringup.ros.session import GraphSession
from rap_bringup.summary import DrivenPath, summarize
from rap_inference.bundle import MANIFEST_NAME, Bundle, file_sha256, load_bundle
from rap_raster.step_pacer import StepPacer

SUMMARY_NAME = "summary.json"

START_TIMEOUT_S = 90.0
"""Loading a bundle and compiling kernels for the first time on a slow, busy machine."""

SETTLE_S = 1.0
"""Two announcements of our Fast DDS profile, which processes repeat every 0.5 s. Measured on a busy
two-core machine: in none of five replays did the guard miss a plan."""

NODES = 4
"""Perception, raster, planner and guard; each subscribes to the clock."""

DRAIN_S = 2.0
"""Drive time given to the last steps: several times the age at which the guard drops a plan."""

MAX_HOLD_S = 1.0
"""How long a step may hold the drive: more than any plan takes, less than a dead graph deserves."""

MAX_VAIN_HOLDS = 20
"""Steps at the beginning of a drive that may pass without any plan: odometry may start two seconds
after the first images. More of them, and nothing will ever come."""

HOLD_POLL_S = 0.002

Progress = Callable[[float], None]
"""Called with the share of the drive that was played, 0..1."""


def replay(
    bag_path: Path,
    bundle_path: Path,
    out: Path,
    *,
    vehicle: Path | None = None,
    rate: float,
    domain: int,
    progress: Progress,
) -> ReplayResult:
    """Plays a bag through the node processes.

    Args:
        bag_path: A rosbag2 folder.
        bundle_path: The model bundle to run.
        out: Folder for `drive.mcap`, `summary.json` and the nodes' logs; made if missing.
        vehicle: See `replay_params`.
        rate: Drive seconds per second.
        domain: ROS domain to drive in.
        progress: Told how far the drive is.

    Returns:
        The measured figures; they are written to `summary.json` too.

    Raises:
        BagError: If the bag cannot be played, or `out` is the bag.
        BundleError: If the bundle cannot be used.
        ValueError: If the parameter file of the vehicle cannot.
        ProcessError: If a node ends early, or nothing is published.
        SystemExit: If a signal asks for the end; no node is left behind.
    """
    if out.resolve() == bag_path.resolve():
        raise BagError(f"{out}: is the bag itself; give another folder for the results")
    bundle = load_bundle(bundle_path)
    bag = open_bag(bag_path)
    slots = slots_of_bag(bag, bundle)
    anchor = next(iter(slots.values()), None)
    params = replay_params(bag, bundle, slots, vehicle)
    steps_ns = due_steps(bag, anchor, params)
    params_path = _prepared(out, params)
    progress(0.0)
    answers = Answers()
    with stop_requests() as check:
        children = _start_nodes(domain, params_path, out)
        try:
            with Recording(out) as recording:
                run = _Run(bag, slots, set(steps_ns), children, answers, recording, progress, check)
                run.play(domain, rate)
        finally:
            stop_all(children)
    if not answers.latencies_ms:
        raise ProcessError(_silence(children, answers))
    summary = _summary(bag, bundle, steps_ns, answers)
    summary["real_time_factor"] = round(bag.duration_s / max(run.seconds, 1e-3), 3)
    (out / SUMMARY_NAME).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return ReplayResult(bag, bundle, slots, steps_ns, answers, summary, out)


def _prepared(out: Path, params: Params) -> Path:
    """Makes the folder of the results and writes the parameters of the nodes into it."""
    out.mkdir(parents=True, exist_ok=True)
    (out / SUMMARY_NAME).unlink(missing_ok=True)  # of an earlier replay; this one may fail
    path = out / "params.yaml"
    write_params(params, path)
    return path


def due_steps(bag: Bag, anchor: str | None, params: Params) -> list[int]:
    """Returns the stamps for which the graph owes a trajectory.

    Args:
        bag: An opened bag.
        anchor: Camera that sets the pace; None: objects do, at the raster node's highest rate.
        params: Parameters of the nodes.
    """
    stamps = step_stamps(bag, anchor)
    if anchor is not None:
        return stamps
    pacer = StepPacer(params[RASTER]["rate_hz"])
    return [stamp for stamp in stamps if pacer.is_due(stamp)]


def _start_nodes(domain: int, params_path: Path, out: Path) -> list[NodeProcess]:
    environment = graph_environment(domain)
    arguments = ["--ros-args", "--params-file", str(params_path)]
    return [
        start("drive process", DRIVE_MODULE, arguments, environment, out / "drive.log"),
        start("guard process", GUARD_MODULE, arguments, environment, out / "guard.log"),
    ]


@dataclass
class _Run:
    """One playing of a bag through running nodes."""

    bag: Bag
    slots: dict[str, str]
    due: set[int]
    children: Sequence[NodeProcess]
    answers: Answers
    recording: Recording
    progress: Progress
    check_requests: Callable[[], None]
    session: GraphSession | None = None
    seconds: float = 0.0
    _pending_ns: int | None = None
    _vain_holds: int = 0
    _is_over: bool = False

    def __post_init__(self) -> None:
        self.step_topics = _step_topics(self.bag, self.slots)

    def play(self, domain: int, rate: float) -> None:
        """Joins the graph, waits until it is complete, plays, and waits for the last answers."""
        topics = _played_topics(self.bag, self.slots)
        with GraphSession(domain, self.bag, topics, self._on_arrival) as session:
            self.session = session
            _wait_for_graph(session, topics, self._check)
            session.player.publish_clock(self.bag.start_ns)
            hooks = PlayerHooks(self._hold, self._on_published, self._check)
            started_s = time.monotonic()
            session.player.play(messages(self.bag), rate, hooks)
            self._wait_for_judgement()
            self.seconds = time.monotonic() - started_s
            self._is_over = True
            session.player.linger(self._is_answered, DRAIN_S, min(rate, 1.0))
            self._check()

    def _check(self) -> None:
        self.check_requests()
        for child in self.children:
            child.check()
        if self.session is not None:
            self.session.recorder.check()

    def _is_answered(self) -> bool:
        return self.due <= self.answers.latencies_ms.keys()

    def _hold(self, item: RecordedMessage) -> None:
        """Waits with the next step until the last one is planned, and the guard has looked at it.

        Images of the other cameras of a step may come some milliseconds after the anchor's; the
        plan waits for them, so they must not wait for the plan.
        """
        if item.topic not in self.step_topics:
            return
        stamp_ns = raw_stamp_ns(item.raw)
        if stamp_ns not in self.due:
            return
        if self._pending_ns is not None and stamp_ns > self._pending_ns:
            self._wait_for_judgement()
        self._pending_ns = stamp_ns

    def _wait_for_judgement(self) -> None:
        """Lets drive time stand still until the guard has looked at the plan of the last step.

        The next plan would take the place of one that it has not seen. Waits for `MAX_HOLD_S` at
        most.
        """
        deadline_s = time.monotonic() + MAX_HOLD_S
        while not self.answers.is_judged(self._pending_ns):
            self._check()
            if time.monotonic() > deadline_s:
                self._vain_holds += 1
                break
            time.sleep(HOLD_POLL_S)
        if self._vain_holds >= MAX_VAIN_HOLDS and not self.answers.plans:
            raise ProcessError(_silence(self.children, self.answers))

    def _on_arrival(self, arrival: Arrival) -> None:
        self.answers.take(arrival)
        if self._is_over and raw_stamp_ns(arrival.raw) not in self.due:
            return  # What the guard does when inputs have ended is no part of the drive.
        if arrival.topic in OUTPUT_TYPES and self.session is not None:
            type_name = OUTPUT_TYPES[arrival.topic]
            now_ns = self.session.player.now_ns
            self.recording.write(now_ns, arrival.topic, type_name, arrival.raw)

    def _on_published(self, item: RecordedMessage) -> None:
        if item.topic in self.step_topics:
            stamp_ns = raw_stamp_ns(item.raw)
            if stamp_ns in self.due:
                self.answers.sent(stamp_ns)
        type_name = self.bag.topics[item.topic].type_name
        stamp_ns = max(item.stamp_ns, self.bag.start_ns)  # latched ones may be from long before
        self.recording.write(stamp_ns, item.topic, type_name, item.raw)
        self.progress((stamp_ns - self.bag.start_ns) / max(1, self.bag.end_ns - self.bag.start_ns))


def _step_topics(bag: Bag, slots: dict[str, str]) -> set[str]:
    """Topics whose messages make up a step."""
    if not slots:
        return {"objects"}
    return {bag.cameras[name].image_topic for name in slots.values()}


def _played_topics(bag: Bag, slots: dict[str, str]) -> list[str]:
    """Input topics of the contract; cameras that feed no slot are recorded but not played."""
    played = [name for name in bag.topics if name in ("objects", "odometry", "route", "rap/map")]
    played += ["command"] if "command" in bag.topics else []
    for name in slots.values():
        played += [f"camera/{name}/camera_info", bag.cameras[name].image_topic]
    return played


def _wait_for_graph(
    session: GraphSession, topics: Sequence[str], check: Callable[[], None]
) -> None:
    """Waits until every played topic is listened to and every output has its publisher.

    Odometry goes to perception and raster in one process and to the guard in another; the clock
    goes to each of the four nodes. That guard and planner have found each other cannot
    be seen from here, so another `SETTLE_S` pass.
    """
    needed = {**dict.fromkeys(topics, 1), "odometry": 3, "/clock": NODES}
    deadline_s = time.monotonic() + START_TIMEOUT_S
    complete_s: float | None = None
    while complete_s is None or time.monotonic() < complete_s + SETTLE_S:
        check()
        missing = session.player.unmatched(needed) + session.recorder.unmatched()
        if not missing and complete_s is None:
            complete_s = time.monotonic()
        if missing and time.monotonic() > deadline_s:
            raise ProcessError(
                f"the graph was not ready after {START_TIMEOUT_S:g} s: "
                f"no counterpart for {', '.join(missing)}"
            )
        time.sleep(0.05)


def _silence(children: Sequence[NodeProcess], answers: Answers) -> str:
    stage = (
        "rap/candidates came but the guard let none through"
        if answers.plans
        else "rap/features came but no rap/candidates"
        if answers.features
        else "no rap/features came"
    )
    last = "; ".join(f"{child.name}: {child.last_error()}" for child in children)
    return f"no rap/trajectory was published: {stage} ({last})"


def _summary(
    bag: Bag, bundle: Bundle, steps_ns: Sequence[int], answers: Answers
) -> dict[str, object]:
    measured = summarize(
        steps_ns=steps_ns,
        latencies_ms=answers.latencies_ms,
        plans=list(answers.plans.values()),
        sources=[features.sources for features in answers.features.values()],
        path=DrivenPath(read_odometry(bag)),
    )
    return {
        "drive": bag.drive,
        "bundle": {
            "name": bundle.manifest.name,
            "sha256": file_sha256(bundle.path / MANIFEST_NAME),
        },
        "duration_s": round(bag.duration_s, 3),
        **measured,
        "guard_cycles": {
            name: answers.guard_cycles[code] for code, name in enumerate(GUARD_STATES)
        },
    }
