"""A signal ends work that has children, wherever the interpreter is when it comes."""

from __future__ import annotations

import os
import signal
import weakref

import pytest

from rap_bringup.processes import stop_requests


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
