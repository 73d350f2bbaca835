"""Children and signals: whatever becomes of a terminal, children work on or end as asked."""

from __future__ import annotations

import os
import signal
import sys
import weakref

import pytest

from rap_bringup.processes import start, stop_requests


class Subject:
    """Something a weak reference can refer to."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_within_the_callback_of_a_weak_reference_is_not_lost(number):
    subject = Subject()
    reference = weakref.ref(subject, lambda _: os.kill(os.getpid(), number))
    with stop_requests() as check:
        check()
        del subject  # its callback cannot raise: Python throws such exceptions away
        assert reference() is None
        with pytest.raises(SystemExit) as ended:
            check()
    assert ended.value.code == 128 + number


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with stop_requests():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_child_is_not_held_up_by_a_terminal_that_is_gone(monkeypatch, tmp_path):
    """A pipe holds 64 KiB: a guard whose lines nobody takes would stand still at the next one."""

    class Gone:
        def write(self, text):
            raise BrokenPipeError

    (tmp_path / "talker.py").write_text(
        "import sys\nfor _ in range(20_000): sys.stderr.write('line\\n')\n"
    )
    monkeypatch.setattr(sys, "stderr", Gone())
    child = start("talker", "talker", [], {**os.environ, "PYTHONPATH": str(tmp_path)})
    assert child.process.wait(60) == 0
    assert child.last_error() == "line"
