"""The fault matrix on real processes, and a drive under random faults.

One graph runs under `rap run` for the whole file; every row damages it and heals it again. The
guard's promises are watched all the time; see `promises.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from fault_drive import DRIVE, GUARD, PATIENCE, FaultDrive, fault_drive
from fault_rows import CLOCK_ROWS, ROWS, STARTS, Recovery, Row, faults_page
from graph_probe import ROOT, Probe, Process, environment
from nav_msgs.msg import Path as PathMsg
from promises import NOMINAL, Recorder, VehicleLimits, infeasible, is_kind_of
from rap_msgs.msg import GuardState
from simulated_drive import SimulatedDrive

from rap_raster.ros.qos import STREAM

pytestmark = [pytest.mark.ros, pytest.mark.slow]

PARAMS_FILE = "config/rap.param.yaml"
LONGEST_S = 30.0
SOAK_S = float(os.environ.get("RAP_SOAK_S", "15"))
SOAK_SEED = int(os.environ.get("RAP_SOAK_SEED", "0"))
LONGEST_FAULT_S = 3.0
LASTS_NS = 1_000_000_000
"""More than every limit of an age, times `PATIENCE` as these are."""


@pytest.fixture(scope="module")
def drive(tiny_bundle, tmp_path_factory):
    with fault_drive(tiny_bundle, tmp_path_factory.mktemp("faults")) as running:
        yield running


def until_told(drive: FaultDrive, row: Row) -> int:
    """Drives on until the guard and the diagnostics say what they should; returns the stamp.

    The state must then have lasted until every limit of an age is over: without a break if the
    fault has brought it, so that no guard passes which stops for a moment only.
    """
    since = len(drive.recorder.states)
    lasts_ns = 0 if row.recovery is Recovery.RESTARTED else PATIENCE * LASTS_NS
    began_s = time.monotonic()
    said = not row.says
    while True:
        drive.tick()
        said = said or drive.says(row.node, row.says)
        states = drive.recorder.states[since:]
        found = next((index for index, told in enumerate(states) if is_of(row, told)), len(states))
        if row.state != NOMINAL and lasts_ns:
            assert {state for _, state, _ in states[found:]} <= {row.state}, drive.story(since)
        if (
            found < len(states)
            and states[-1][0] - states[found][0] >= lasts_ns
            and drive.stays(row.state, since)
            and said
            and is_kind_of(row.state, drive.recorder.poses)
        ):
            return states[found][0]
        assert time.monotonic() - began_s < LONGEST_S, "\n".join(drive.story(since))


def go_on(drive: FaultDrive, row: Row) -> None:
    """Ends the fault; the drive goes on as the row says, and in no other way."""
    if row.recovery is Recovery.NEW_ROUTE:
        drive.end_faults()
        since = len(drive.recorder.states)
        began_ns = drive.recorder.states[-1][0]
        while drive.recorder.states[-1][0] - began_ns < PATIENCE * LASTS_NS:
            drive.tick()
        assert {state for _, state, _ in drive.recorder.states[since:]} == {row.state}
        drive.heal_with_new_routes()
    else:
        drive.heal()


def is_of(row: Row, told: tuple[int, int, str]) -> bool:
    _, state, reason = told
    return state == row.state and row.reason in reason


@pytest.mark.parametrize(
    ("bend", "broken"),
    [
        (lambda poses: poses, ""),
        (lambda poses: poses * np.nan, "not finite"),
        (lambda poses: poses + np.where(np.arange(50) >= 20, 0.2, 0.0)[:, None] * [1, 0, 0], "acc"),
        (lambda poses: np.minimum(poses, [12.0, 9.0, 9.0]), "braking"),
        (lambda poses: poses + np.linspace(0.0, 9.0, 50)[:, None] * [0, 0, 1], "curvature"),
    ],
)
def test_the_judge_finds_what_no_vehicle_can_do(bend, broken):
    """A drive at 10 m/s that is not changed, and changes of it that break one limit each."""
    poses = np.column_stack([np.arange(1.0, 51.0), np.zeros(50), np.zeros(50)])
    found = infeasible(bend(poses), VehicleLimits.shipped())
    assert broken in found
    assert bool(found) == bool(broken)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_fault_has_the_promised_effect_and_the_drive_goes_on_after_it(drive, row):
    drive.heal_with_new_routes()  # the row before may have failed
    processes = drive.processes()
    row.inject(drive)
    began_ns = drive.probe.node.get_clock().now().nanoseconds
    stamp = until_told(drive, row)
    print(f"{row.name}: {(stamp - began_ns) * 1e-9:.2f} s")
    if row.within_s is not None:
        assert (stamp - began_ns) * 1e-9 <= PATIENCE * row.within_s
    go_on(drive, row)
    assert (drive.processes() != processes) == (row.recovery is Recovery.RESTARTED)
    assert drive.recorder.broken == []


@pytest.mark.soak
def test_random_faults_never_break_a_promise(drive):
    """Two faults at a time at random, for RAP_SOAK_S seconds; `make soak` takes ten minutes."""
    rng = np.random.default_rng(SOAK_SEED)
    rows = [row for row in ROWS if row.source != "guard process"]
    counts: Counter[str] = Counter()
    drive.heal()
    since_ns = drive.recorder.answers_ns[-1]
    end_s = time.monotonic() + SOAK_S
    while time.monotonic() < end_s:
        for index in rng.choice(len(rows), size=rng.integers(1, 3), replace=False):
            rows[index].inject(drive)
            counts[rows[index].name] += 1
        until_s = time.monotonic() + rng.uniform(0.2, LONGEST_FAULT_S)
        while time.monotonic() < until_s:
            drive.tick()
        drive.heal_with_new_routes()
    print(f"random faults for {SOAK_S:g} s, seed {SOAK_SEED}:", dict(sorted(counts.items())))
    drive.catch_up()
    print(drive.recorder.figures(since_ns))
    assert drive.recorder.broken == []
    assert drive.recorder.unanswered() == []
    gaps_s = drive.recorder.gaps_s(since_ns)
    assert np.percentile(gaps_s, 99.9) <= PATIENCE * 0.1
    assert gaps_s.max() <= PATIENCE * 0.2


def test_every_cycle_of_the_guard_has_its_trajectory(drive):
    """Over the whole file, by the guard's own clock, so that a busy machine changes nothing."""
    drive.heal()
    drive.catch_up()
    print(drive.recorder.figures())
    assert drive.recorder.unanswered() == []
    assert np.median(drive.recorder.gaps_s()) == pytest.approx(0.05, abs=0.005)


@pytest.mark.parametrize(
    ("answered", "unanswered"),
    [(range(1, 20), 0), (range(1, 20, 2), 9), ([*range(1, 20), 12], 1), ([1, *range(4, 20)], 2)],
)
def test_the_recorder_finds_cycles_that_have_no_trajectory_or_two(answered, unanswered):
    """Of 20 cycles those before the first trajectory and after the newest one do not count."""
    cycles_ns = [k * 50_000_000 for k in range(20)]
    answers_ns = [cycles_ns[k] + 1_000 * (1 + i) for i, k in enumerate(sorted(answered))]
    states = [(stamp, NOMINAL, "") for stamp in cycles_ns]
    recorder = Recorder(states=states, cycles_ns=cycles_ns, answers_ns=answers_ns)
    assert len(recorder.unanswered()) == unanswered


def test_a_clock_that_fails_has_the_promised_effect_and_the_guard_answers_on():
    """All rows on one guard: it never falls silent, and follows again when time goes on."""
    with Probe() as probe, Process(GUARD, ["use_sim_time:=true", "mode:=active"], PARAMS_FILE):
        states = probe.watch(GuardState, "rap/state")
        paths = probe.watch(PathMsg, "rap/trajectory")
        reports = probe.watch(DiagnosticArray, "/diagnostics", STREAM)
        clock = SimulatedDrive(probe)
        clock.stop()
        for row in CLOCK_ROWS:
            row.inject(clock)
            seen = (len(states), len(paths), len(reports))
            until(clock, lambda row=row, seen=seen: told(row, states, paths, reports, seen), states)
            clock.heal()
            until(clock, lambda: states[-1].state == NOMINAL, states)


def until(clock: SimulatedDrive, condition: Callable[[], bool], states: list) -> None:
    deadline_s = time.monotonic() + LONGEST_S
    while not condition():
        told_last = [(state.state, state.reason) for state in states[-3:]]
        assert time.monotonic() < deadline_s, told_last
        clock.tick()


def told(row: Row, states: list, paths: list, reports: list, seen: tuple[int, int, int]) -> bool:
    """True if state, trajectories and diagnostics after a fault are those of its row."""
    after = [s for s in states[seen[0] :] if s.state == row.state and row.reason in s.reason]
    texts = [status.message for report in reports[seen[2] :] for status in report.status]
    answers_on = len(states) > seen[0] + 10 and len(paths) > seen[1] + 10
    return bool(after) and answers_on and any(row.says in text for text in texts)


@pytest.mark.parametrize("start", STARTS, ids=lambda start: start.fault)
def test_a_drive_process_that_cannot_start_says_why_in_one_line(tiny_bundle, tmp_path, start):
    for file in tiny_bundle.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    start.damage(tmp_path)
    arguments = ["--ros-args", "-p", f"bundle.path:={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", DRIVE, *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert start.says in line


def test_the_page_of_faults_says_what_is_tested():
    page = (ROOT / "docs/faults.md").read_text()
    assert page == faults_page(), "run .venv/bin/python tools/fault_table.py"
