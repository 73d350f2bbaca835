"""Reports of recordings for which every figure is known by hand."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from guard_messages import state_message, trajectory_message
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from rap_bringup.answers import GUARD_STATES
from rap_bringup.bag_types import header, message, serialized, time_message
from rap_bringup.bags import BagError, odometry_message
from rap_bringup.cli import app
from rap_bringup.drive_report import (
    SILENT,
    TYPES,
    Cycle,
    RecordedDrive,
    episodes,
    read_drive,
    report,
    state_shares,
)
from rap_bringup.drive_report_picture import STATE_COLORS, draw_drive
from rap_bringup.recording import RECORDING_NAME, Recording
from rap_raster.ego_history import EgoState

S = 1_000_000_000
BEGIN_NS = 50 * S
CYCLE_NS = 50_000_000
SPEED_MPS = 10.0
NOMINAL, HOLD_LAST, STOP = 1, 2, 3


def straight_on(stamp_ns: int, aside_m: float):
    """Goes on straight at the driven speed, `aside_m` to the left: its error is `aside_m`."""
    driven_s = (stamp_ns - BEGIN_NS) / S
    places_m = [(SPEED_MPS * (driven_s + 0.1 * k), aside_m) for k in range(1, 41)]
    return trajectory_message(stamp_ns, places_m)


def complaint_message(stamp_ns: int, level: int, text: str):
    status = message(
        "diagnostic_msgs/msg/DiagnosticStatus",
        level=level, name="guard_node", message=text, hardware_id="", values=[],
    )  # fmt: skip
    return message(
        "diagnostic_msgs/msg/DiagnosticArray", header=header(stamp_ns, ""), status=[status]
    )


def write(folder, contents) -> None:
    """Writes (stamp, topic, message) of a drive."""
    with Recording(folder) as recording:
        for stamp_ns, topic, content in sorted(contents, key=lambda item: item[0]):
            recording.write(stamp_ns, topic, TYPES[topic], serialized(content))


def drive_contents():
    """Eight seconds straight ahead: 6 s NOMINAL, 1 s held, 0.5 s silent, 0.5 s NOMINAL."""
    end = BEGIN_NS + 8 * S
    for stamp in range(BEGIN_NS, end + 1, CYCLE_NS):
        elapsed_s = (stamp - BEGIN_NS) / S
        yield stamp, "odometry", odometry_message(
            EgoState(stamp, SPEED_MPS * elapsed_s, 0.0, 0.0, 0.0, SPEED_MPS, 0.0, 0.0)
        )  # fmt: skip
        if 7.0 < elapsed_s < 7.5:
            continue
        held = 6.0 <= elapsed_s < 7.0
        text = f"candidates: {elapsed_s:.2f} s old" if held else "all checks with input passed"
        yield stamp, "rap/state", state_message(stamp, HOLD_LAST if held else NOMINAL, text)
        aside_m = 9.0 if held else 2.0 if stamp == BEGIN_NS + S else 0.5
        yield stamp + 1, "rap/shadow/trajectory", straight_on(stamp, aside_m)
        latency = message("rap_msgs/msg/Float64Stamped", stamp=time_message(stamp), data=elapsed_s)
        yield stamp + 2, "rap/latency/end_to_end", latency
    for stamp, level, text in ((S, 2, "starting"), (BEGIN_NS + 6 * S, 1, "HOLD_LAST")):
        for _ in range(3):
            yield stamp, "diagnostics", complaint_message(stamp, level, text)
    yield BEGIN_NS, "diagnostics", complaint_message(BEGIN_NS, 0, "fine")
    yield 1, "rap/state", state_message(0, 0, "no candidates yet")  # Before /clock has come.


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drive")
    write(folder, drive_contents())
    return folder / RECORDING_NAME


def test_figures_of_a_known_drive(recorded):
    found = report(read_drive(recorded))
    assert found["mode"] == "shadow"
    assert found["duration_s"] == 8.0
    assert found["driven_m"] == 80.0
    assert found["states"] == {
        "nominal": {"share": 0.8125, "episodes": 2, "longest_s": 6.0},
        "hold_last": {"share": 0.125, "episodes": 1, "longest_s": 1.0},
        SILENT: {"share": 0.0625, "episodes": 1, "longest_s": 0.5},
    }
    held, silent = found["episodes"]
    assert (held["state"], held["begin_s"], held["reason"]) == (
        "hold_last", 6.0, "candidates: 6.00 s old",
    )  # fmt: skip
    assert (silent["state"], silent["begin_s"]) == (SILENT, 7.0)
    assert found["cycle_gap_ms"] == {"p50": 50.0, "p99": 50.0, "max": 500.0}
    assert found["latency_ms"]["max"] == 8.0
    assert found["rejected"] == {"shift": 0.0, "collision": 0.25}


def test_plans_are_compared_with_what_was_driven_where_it_is_known(recorded):
    """101 plans have 3 s after them, one of them 2 m aside and the others half a metre."""
    found = report(read_drive(recorded))
    assert found["ade_plans"] == 101
    assert found["ade_3s_m"] == pytest.approx((100 * 0.5 + 2.0) / 101, abs=1e-4)
    assert found["ade_3s_constant_velocity_m"] == pytest.approx(0.0, abs=1e-6)
    assert found["farthest"][0] == {"at_s": 1.0, "ade_3s_m": 2.0}
    assert len(found["farthest"]) == 5


def test_complaints_are_counted_and_say_what_came_first(recorded):
    starting, holding = report(read_drive(recorded))["diagnostics"]
    assert starting == {
        "level": "error", "name": "guard_node", "first_s": 0.0, "message": "starting", "count": 3,
    }  # fmt: skip
    assert (holding["level"], holding["first_s"], holding["count"]) == ("warning", 6.0, 3)


def test_the_command_leaves_files_and_tells_the_reasons(recorded, tmp_path):
    done = CliRunner().invoke(app, ["report", str(recorded), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "81.2 % of the time, 2 times, longest 6.0 s" in done.output
    assert "hold_last: candidates: 6.00 s old" in done.output
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written == report(read_drive(recorded))
    picture = cv2.imread(str(tmp_path / "out" / "report.png"))
    assert np.array_equal(picture, draw_drive(read_drive(recorded)))


def test_no_episode_is_too_short_to_be_seen():
    """One cycle of an hour."""
    drive = RecordedDrive()
    for k in range(72_000):
        state = STOP if k == 40_000 else NOMINAL
        drive.cycles.append(Cycle(BEGIN_NS + k * CYCLE_NS, state, ""))
    picture = draw_drive(drive)
    assert (picture[540] == STATE_COLORS["controlled_stop"]).all(axis=1).any()


@given(
    st.lists(
        st.tuples(st.integers(-CYCLE_NS, 20 * CYCLE_NS), st.integers(0, 4)), min_size=1, max_size=30
    )
)
def test_shares_of_any_drive_are_of_all_its_time(steps):
    """Clocks that jump back included."""
    drive, stamp_ns = RecordedDrive(), BEGIN_NS
    for step_ns, state in steps:
        drive.cycles.append(Cycle(stamp_ns, state, ""))
        stamp_ns += step_ns
    found = episodes(drive)
    forward = sum(max(0, step_ns) for step_ns, _ in steps[:-1])
    assert sum(episode.seconds for episode in found) == pytest.approx(forward / S)
    shares = state_shares(found)
    assert set(shares) <= {*GUARD_STATES, SILENT}
    if forward:
        assert sum(share["share"] for share in shares.values()) == pytest.approx(1.0, abs=1e-4)
    assert draw_drive(drive).shape[2] == 3


def test_a_bag_without_a_guard_is_refused_in_one_line(tmp_path):
    write(tmp_path, [item for item in drive_contents() if item[1] == "odometry"])
    with pytest.raises(BagError, match=r"no messages of a guard on /rap/state"):
        read_drive(tmp_path / RECORDING_NAME)


def test_another_type_is_refused_with_both(tmp_path):
    with Recording(tmp_path) as recording:
        content = complaint_message(BEGIN_NS, 0, "")
        recording.write(BEGIN_NS, "rap/state", TYPES["diagnostics"], serialized(content))
    with pytest.raises(BagError, match=r"/rap/state has type diag.*, expected rap_msgs/msg/Guard"):
        read_drive(tmp_path / RECORDING_NAME)


def test_a_state_of_another_version_is_named(tmp_path):
    write(tmp_path, [(BEGIN_NS, "rap/state", state_message(BEGIN_NS, 9, ""))])
    with pytest.raises(BagError, match="state 9 is unknown"):
        read_drive(tmp_path / RECORDING_NAME)


def test_messages_that_are_not_finite_are_counted_and_left_out(recorded, tmp_path):
    """Faults are what such reports are for: NaN odometry, a NaN plan, a NaN latency."""
    nan, at = float("nan"), BEGIN_NS + S + 7
    broken = [
        (at, "odometry", odometry_message(EgoState(at, nan, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0))),
        (at, "odometry", odometry_message(EgoState(at, 0.0, 0.0, 0.0, 0.0, nan, 0.0, 0.0))),
        (at, "rap/shadow/trajectory", straight_on(at, nan)),
        (at, "rap/latency/end_to_end",
         message("rap_msgs/msg/Float64Stamped", stamp=time_message(at), data=nan)),
    ]  # fmt: skip
    write(tmp_path, [*drive_contents(), *broken])
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["report", str(tmp_path / RECORDING_NAME), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "2 of /odometry" in done.output
    found = json.loads((out / "report.json").read_text(), parse_constant=pytest.fail)
    whole = report(read_drive(recorded))
    counts = found.pop("not_finite")
    assert counts == {"odometry": 2, "rap/shadow/trajectory": 1, "rap/latency/end_to_end": 1}
    assert found == {key: value for key, value in whole.items() if key != "not_finite"}


def test_the_last_cycle_is_an_episode_of_its_own():
    """Recordings are often stopped when help is asked for."""
    drive = RecordedDrive()
    for k in range(100):
        drive.cycles.append(Cycle(BEGIN_NS + k * CYCLE_NS, NOMINAL, ""))
    assert [episode.state for episode in episodes(drive)] == ["nominal"]
    drive.cycles.append(Cycle(BEGIN_NS + 100 * CYCLE_NS, 4, "stop meets object 1 in 0.2 s"))
    last = report(drive)["episodes"][-1]
    assert (last["state"], last["seconds"], last["begin_s"]) == ("mrm_request", 0.0, 5.0)
