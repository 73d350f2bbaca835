"""The fault matrix: what is done to the graph, and what the guard and the diagnostics then do.

`test_faults.py` runs every row on real processes, and `tools/fault_table.py` makes `docs/faults.md`
of them, so that the page cannot say anything else than what is tested.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from fault_drive import CAMERAS, DRIVE, GUARD, PATIENCE, FaultDrive
from graph_probe import Fault
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMsg
from promises import HOLD_LAST, MRM, NOMINAL, STATE_NAMES, STOP, WAITING
from std_msgs.msg import UInt8

from rap_inference.bundle import file_sha256
from rap_raster.ros.conversions import stamp_ns, time_msg
from rap_raster.ros.qos import RESULT, STREAM

LATE_NS, BACK_NS = int(PATIENCE * 1_000_000_000), 30_000_000_000
BURST, BURST_STEP_NS = 10, 1_000_000
FRONT = next(iter(CAMERAS))
IMAGE, INFO = f"camera/{FRONT}/image", f"camera/{FRONT}/camera_info"

Inject = Callable[[FaultDrive], None]


class Recovery(Enum):
    """How the drive goes on when the fault is over; the text is that of the page."""

    BY_ITSELF = "by itself"
    RESTARTED = "by itself, when `rap run` has started it again"
    NEW_ROUTE = "with a new route"


@dataclass(frozen=True)
class Row:
    """One fault, and what is promised about it.

    Attributes:
        source: What is damaged, for people.
        fault: How, for people.
        inject: Does it; `FaultDrive.heal` undoes it.
        state: State of the guard that follows, and lasts as long as the fault does.
        reason: Part of the reason that the guard then gives; empty where it may be any.
        node: Whose diagnostics tell of it ...
        says: ... and a part of what they say; empty where there is nothing to tell.
        within_s: From the fault to the state, by the stamps of `rap/state`; None where the state
            does not change, or where a process must start first. Times `PATIENCE`.
        recovery: How the drive goes on after the fault.
    """

    source: str
    fault: str
    inject: Inject
    state: int
    reason: str = ""
    node: str = ""
    says: str = ""
    within_s: float | None = None
    recovery: Recovery = Recovery.BY_ITSELF

    @property
    def name(self) -> str:
        """For test reports."""
        return f"{self.source}: {self.fault}"


# Faults of messages.


def stopped() -> Fault:
    """Nothing comes any more."""
    return lambda _: []


def late() -> Fault:
    """Everything comes a second after its stamp."""
    waiting: deque[Any] = deque()

    def fault(message: Any) -> list[Any]:
        waiting.append(message)
        due_ns = stamp_ns(message.header.stamp) - LATE_NS
        return [waiting.popleft() for _ in range(len(waiting))
                if stamp_ns(waiting[0].header.stamp) <= due_ns]  # fmt: skip

    return fault


def jumped_back() -> Fault:
    """The clock of the source lags by half a minute from now on."""

    def fault(message: Any) -> list[Any]:
        message.header.stamp = time_msg(stamp_ns(message.header.stamp) - BACK_NS)
        return [message]

    return fault


def burst() -> Fault:
    """Ten times as many messages."""

    def fault(message: Any) -> list[Any]:
        copies = [deepcopy(message) for _ in range(BURST)]
        for index, copy in enumerate(copies):
            copy.header.stamp = time_msg(stamp_ns(message.header.stamp) + index * BURST_STEP_NS)
        return copies

    return fault


def in_frame(name: str = "odom") -> Callable[[], Fault]:
    """Another frame id."""
    return changed(lambda message: setattr(message.header, "frame_id", name))


def changed(change: Callable[[Any], object]) -> Callable[[], Fault]:
    """Any change of the message in place."""

    def fault(message: Any) -> list[Any]:
        change(message)
        return [message]

    return lambda: fault


def _lame_odometry(message: Any) -> None:
    message.pose.pose.position.x = math.nan


def _nan_object(message: Any) -> None:
    message.centers[0] = math.nan


def _in_the_way(message: Any) -> None:
    message.centers[0] += 3.1  # 1.8 m ahead of the bumper: at 5 m/s not even the brakes help
    message.centers[1] -= 8.0
    message.velocities[0] = 0.0


def _nan_route(message: Any) -> None:
    message.poses[1].pose.position.y = math.nan


def _nan_map(message: Any) -> None:
    message.polygon_points[2] = math.nan


def _aside(message: Any) -> None:
    message.pose.pose.position.y += 6.0


def _no_calibration(message: Any) -> None:
    message.k = [0.0] * 9


def _nan_calibration(message: Any) -> None:
    message.k[0] = math.nan


def _other_lens(message: Any) -> None:
    message.k[0], message.k[4] = 90.0, 90.0


def _cut(message: Any) -> None:
    message.data = message.data[: len(message.data) // 2]


def _encoding(message: Any) -> None:
    message.encoding = "32FC1"


# What is done to the drive.


def on(topic: str, make: Callable[[], Fault]) -> Inject:
    """Damages one topic."""
    return lambda drive: drive.inject(topic, make())


def on_all_cameras(make: Callable[[], Fault]) -> Inject:
    """Damages all images."""

    def inject(drive: FaultDrive) -> None:
        for name in CAMERAS:
            drive.inject(f"camera/{name}/image", make())

    return inject


def drive_killed(drive: FaultDrive) -> None:
    """Kills perception, raster and planner, which `rap run` then starts again."""
    drive.kill(DRIVE)


def guard_killed(drive: FaultDrive) -> None:
    """Kills the guard, and the images too: else it would be NOMINAL again before one can look."""
    drive.kill(GUARD)
    on_all_cameras(stopped)(drive)


def other_controller_input(drive: FaultDrive) -> None:
    """Somebody else publishes what only the guard may."""
    drive.extra.append(drive.probe.node.create_publisher(PathMsg, "rap/trajectory", RESULT))


def other_odometry(drive: FaultDrive) -> None:
    """A second localisation, six metres beside the first one."""
    publisher = drive.probe.node.create_publisher(Odometry, "odometry", STREAM)
    drive.extra.append(publisher)

    def publish() -> None:
        now_ns = drive.probe.node.get_clock().now().nanoseconds
        message = drive.probe.odometry_at(now_ns)
        _aside(message)
        publisher.publish(message)

    drive.every_tick.append(publish)


def unknown_command(drive: FaultDrive) -> None:
    """Somebody asks for a turn that there is not."""
    publisher = drive.probe.node.create_publisher(UInt8, "command", RESULT)
    drive.extra.append(publisher)
    drive.every_tick.append(lambda: publisher.publish(UInt8(data=9)))


PERCEPTION, RASTER, PLANNER, WATCH = (
    "perception_node",
    "raster_node",
    "planner_node",
    "guard_node",
)
STOPS_S = 1.2
"""Limit of an age (0.5 s for candidates), `hold_s` (0.3 s), and what the way there takes."""

MISSING = "1 of 3 cameras are missing"
BLIND = "not checked, for want of fresh input: collision"
OLD_PLAN, OLD_ODOMETRY = "candidates: ", "odometry: "


def _stop(source: str, fault: str, inject: Inject, reason: str, *told: str) -> Row:
    node, says = told
    return Row(source, fault, inject, STOP, reason, node, says, STOPS_S)


def _goes_on(source: str, fault: str, inject: Inject, node: str = "", says: str = "") -> Row:
    return Row(source, fault, inject, NOMINAL, "", node, says)


ROWS = (
    _stop("one camera", "stopped", on(IMAGE, stopped), MISSING, PERCEPTION,
          f"camera {FRONT}: no image for"),
    _stop("one camera", "late by 1 s", on(IMAGE, late), MISSING, PERCEPTION,
          f"camera {FRONT}: images come too late for the newest frames"),
    _stop("one camera", "30 s back in time", on(IMAGE, jumped_back), "", WATCH,
          "CONTROLLED_STOP: "),
    _stop("one camera", "wrong encoding", on(IMAGE, changed(_encoding)), MISSING, PERCEPTION,
          f"camera {FRONT}: encoding '32FC1' is unknown"),
    _stop("one camera", "truncated data", on(IMAGE, changed(_cut)), MISSING, PERCEPTION,
          f"camera {FRONT}: 12288 bytes with step 384 are too few for 128x64 rgb8"),
    _goes_on("one camera", "wrong frame id", on(IMAGE, in_frame())),
    _goes_on("one camera", "10x burst", on(IMAGE, burst)),
    _stop("all cameras", "stopped", on_all_cameras(stopped), OLD_PLAN, PERCEPTION,
          f"camera {FRONT}: no image for"),
    _goes_on("calibration", "stopped", on(INFO, stopped)),
    _goes_on("calibration", "30 s back in time", on(INFO, jumped_back)),
    _stop("calibration", "missing (all zero)", on(INFO, changed(_no_calibration)), MISSING,
          PERCEPTION, f"{FRONT}: camera_info.k has focal lengths 0, 0, expected > 0"),
    _stop("calibration", "NaN", on(INFO, changed(_nan_calibration)), MISSING, PERCEPTION,
          f"{FRONT}: camera_info.k is not finite"),
    _goes_on("calibration", "late by 1 s", on(INFO, late)),
    _goes_on("calibration", "wrong frame id", on(INFO, in_frame())),
    _goes_on("calibration", "10x burst", on(INFO, burst)),
    _goes_on("calibration", "changed", on(INFO, changed(_other_lens)), PERCEPTION,
             "fx, fy changed at run time"),
    _goes_on("objects", "stopped", on("objects", stopped), WATCH, BLIND),
    _goes_on("objects", "late by 1 s", on("objects", late), WATCH, BLIND),
    _goes_on("objects", "30 s back in time", on("objects", jumped_back), WATCH, BLIND),
    _goes_on("objects", "NaN", on("objects", changed(_nan_object)), PERCEPTION,
             "objects: centers[0]: is nan, expected a finite number"),
    _goes_on("objects", "wrong frame id", on("objects", in_frame()), PERCEPTION,
             "objects: frame_id is 'odom', expected 'map' or 'base_link'"),
    _goes_on("objects", "10x burst", on("objects", burst)),
    Row("objects", "somebody in the way of any stop", on("objects", changed(_in_the_way)), MRM,
        "stop meets object", WATCH, "MRM_REQUEST: ", STOPS_S, Recovery.NEW_ROUTE),
    _stop("odometry", "stopped", on("odometry", stopped), OLD_ODOMETRY, WATCH, OLD_ODOMETRY),
    _stop("odometry", "late by 1 s", on("odometry", late), OLD_ODOMETRY, WATCH, OLD_ODOMETRY),
    _stop("odometry", "30 s back in time", on("odometry", jumped_back), "odometry: 3", WATCH,
          "odometry: 3"),
    _stop("odometry", "NaN", on("odometry", changed(_lame_odometry)), "", WATCH,
          "odometry: pose or twist is not finite"),
    _stop("odometry", "wrong frame id", on("odometry", in_frame()), "", WATCH,
          "odometry: frame_id is 'odom', expected 'map'"),
    _goes_on("odometry", "10x burst", on("odometry", burst)),
    _goes_on("odometry", "second publisher, 6 m aside", other_odometry, WATCH,
             "odometry: 2 publishers, expected one"),
    _goes_on("route", "NaN", on("route", changed(_nan_route)), PLANNER,
             "route: poses[1] is not finite"),
    _goes_on("route", "wrong frame id", on("route", in_frame()), PLANNER,
             "route: frame_id is 'odom', expected 'map'"),
    _goes_on("route", "30 s back in time", on("route", jumped_back)),
    _goes_on("route", "10x burst", on("route", burst)),
    _goes_on("command", "unknown value", unknown_command, PLANNER,
             "command: is 9, expected 0 to 3"),
    _goes_on("map", "NaN", on("rap/map", changed(_nan_map)), WATCH,
             "rap/map: polygon_points[2]: is nan, expected a finite number"),
    _goes_on("map", "wrong frame id", on("rap/map", in_frame()), RASTER,
             "rap/map: frame_id is 'odom', expected 'map'"),
    _goes_on("trajectory", "second publisher", other_controller_input, WATCH,
             "/rap/trajectory: published by others too: /probe"),
    Row("drive process", "killed (-9)", drive_killed, STOP, OLD_PLAN, WATCH, OLD_PLAN, STOPS_S,
        Recovery.RESTARTED),
    Row("guard process", "killed (-9)", guard_killed, WAITING, "", WATCH, "WAITING",
        recovery=Recovery.RESTARTED),
)  # fmt: skip
"""In the order of the drive."""

NO_CLOCK = "no /clock received, and use_sim_time is set"
CLOCK_ROWS = (
    Row("clock", "never came", lambda _: None, WAITING, "", WATCH, NO_CLOCK),
    Row("clock, with all inputs", "stopped", lambda clock: clock.stop(), NOMINAL),
    Row("clock", "stopped", lambda clock: clock.stop_clock(), HOLD_LAST, "odometry: stamped",
        WATCH, "s ahead of the clock (use_sim_time set?)"),
    Row("clock, with all inputs", "30 s back in time", lambda clock: clock.jump_back(30.0), WAITING,
        "", WATCH, "WAITING: "),
)  # fmt: skip
"""A guard alone, under `use_sim_time`; a `SimulatedDrive` takes the place of the drive."""


@dataclass(frozen=True)
class Start:
    """A bundle with which the drive process does not start.

    Attributes:
        fault: What is wrong with it, for people.
        damage: Does it to the bundle in a folder.
        says: Part of the line with which the process ends, status 1.
    """

    fault: str
    damage: Callable[[Path], object]
    says: str


def _rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda bundle: (bundle / name).write_bytes(change((bundle / name).read_bytes()))


def _no_network(bundle: Path) -> None:
    """A file that is what the manifest says, and no network."""
    path, manifest = bundle / "planner.onnx", bundle / "bundle.yaml"
    before = file_sha256(path)
    path.write_bytes(b"not a network")
    manifest.write_text(manifest.read_text().replace(before, file_sha256(path)))


STARTS = (
    Start("bundle: missing", lambda bundle: (bundle / "bundle.yaml").unlink(),
          "bundle.yaml: cannot be read"),
    Start("bundle: corrupt manifest", _rewrite("bundle.yaml", lambda old: old[:40] + b"{\0"),
          "bundle.yaml"),
    Start("bundle: wrong version",
          _rewrite("bundle.yaml", lambda old: old.replace(b"rap.bundle/1", b"rap.bundle/9")),
          "schema"),
    Start("bundle: wrong hash", _rewrite("encoder.onnx", lambda old: old + b"x"),
          "encoder.onnx: sha256 is"),
    Start("bundle: corrupt network", _no_network, "planner.onnx: not a usable network"),
)  # fmt: skip

_TRAJECTORY = {
    WAITING: "one pose: stand",
    NOMINAL: "candidate of the planner",
    HOLD_LAST: "last valid one",
    STOP: "stop along the last valid one",
    MRM: "hardest stop along the last valid one",
}

_PAGE = """# What happens when something fails

Made by `tools/fault_table.py` from `test/fault_rows.py`; `test/test_faults.py` does all of this to
the running graph (three cameras, objects, map, route, shipped limits) and checks every cell. Not
edited by hand.

The guard publishes in every cycle, at least 20 times a second, whatever happens. *Within* is the
time from the fault to the state, by the stamps of `rap/state`; where there is none, the state does
not change or a process has to start first. A state that is not NOMINAL lasts as long as the fault
does; a process that was killed ends its fault itself.

| input | fault | state of the guard | trajectory | within | diagnostics | recovers |
|---|---|---|---|---|---|---|
{rows}

`NOMINAL` without objects means that collisions are not checked; the guard's diagnostics say so, and
`checks.collision` is then NOT_CHECKED in `rap/state`. A stop that lasts longer than `mrm.after_s`
becomes MRM_REQUEST, which a new route ends, or standing with good candidates.

## At the start

The drive process ends with status 1 and one line; the guard stays in WAITING.

| fault | line |
|---|---|
{starts}

## Engines

A full disk, or a folder that cannot be written, costs a warning with the reason: the engine that
was built is used, and built again at the next start
(`src/rap_inference/test/test_engine_cache.py`).
"""


def faults_page() -> str:
    """Returns the text of `docs/faults.md`."""
    rows = [
        "| " + " | ".join((
            row.source,
            row.fault,
            STATE_NAMES[row.state],
            _TRAJECTORY[row.state],
            f"{row.within_s:g} s" if row.within_s else "",
            f"`{row.node}`: {row.says}" if row.says else "nothing to tell",
            row.recovery.value,
        )) + " |"
        for row in (*ROWS, *CLOCK_ROWS)
    ]  # fmt: skip
    starts = [f"| {start.fault} | {start.says} |" for start in STARTS]
    return _PAGE.format(rows="\n".join(rows), starts="\n".join(starts))
