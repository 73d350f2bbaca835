"""The fault matrix on real processes, and a drive under random faults.

One graph runs under `rap run` for the whole file; every row damages it and heals it again. The
guard's promises are watched all the time; see `promises.py`.
"""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from fault_drive import PATIENCE, FaultDrive, fault_drive
from fault_rows import ROWS, Row
from promises import NOMINAL, is_kind_of

pytestmark = [pytest.mark.ros, pytest.mark.slow]

LONGEST_S = 20.0
SOAK_S = float(os.environ.get("RAP_SOAK_S", "15"))


@pytest.fixture(scope="module")
def drive(tiny_bundle, tmp_path_factory):
    with fault_drive(tiny_bundle, tmp_path_factory.mktemp("faults")) as running:
        yield running


def until_told(drive: FaultDrive, row: Row) -> int:
    """Drives on until the guard and the diagnostics say what they should; returns the stamp.

    Where the drive should go on, it must still do so when every limit of an age is over.
    """
    since = len(drive.recorder.states)
    began_s = time.monotonic()
    while True:
        drive.tick()
        found = [
            stamp
            for stamp, state, reason in drive.recorder.states[since:]
            if state == row.state and row.reason in reason
        ]
        lasting = row.state != NOMINAL or (
            time.monotonic() - began_s > PATIENCE and drive.stays(NOMINAL, since)
        )
        if (
            found
            and lasting
            and (not row.says or drive.says(row.node, row.says))
            and is_kind_of(row.state, drive.recorder.poses)
        ):
            return found[0]
        assert time.monotonic() - began_s < LONGEST_S, "\n".join(drive.story(since))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_fault_has_the_promised_effect_and_the_drive_goes_on_after_it(drive, row):
    drive.heal()
    row.inject(drive)
    began_ns = drive.probe.node.get_clock().now().nanoseconds
    stamp = until_told(drive, row)
    print(f"{row.name}: {(stamp - began_ns) * 1e-9:.2f} s")
    if row.within_s is not None:
        assert (stamp - began_ns) * 1e-9 <= PATIENCE * row.within_s
    drive.heal()
    assert drive.recorder.broken == []
