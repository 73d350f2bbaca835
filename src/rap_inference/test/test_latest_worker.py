from __future__ import annotations

import threading

from rap_inference.latest_worker import LatestWorker

TIMEOUT_S = 10.0


class Gate:
    """A process function that can be held at its start."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.started = threading.Semaphore(0)
        self.let_go = threading.Semaphore(0)

    def __call__(self, item: int) -> None:
        self.started.release()
        assert self.let_go.acquire(timeout=TIMEOUT_S)
        if item < 0:
            raise ValueError(f"item {item}")
        self.done.append(item)


def test_newest_item_wins_while_the_worker_is_busy():
    gate = Gate()
    worker = LatestWorker(gate, lambda _: None, name="test")
    worker.submit(1)
    assert gate.started.acquire(timeout=TIMEOUT_S)
    for item in (2, 3, 4):
        worker.submit(item)
    gate.let_go.release()
    gate.let_go.release()
    assert gate.started.acquire(timeout=TIMEOUT_S)
    worker.stop()
    assert gate.done == [1, 4]
    counts = worker.counts
    assert (counts.submitted, counts.dropped, counts.finished, counts.failed) == (4, 2, 2, 0)


def test_an_error_is_reported_and_the_worker_goes_on():
    gate = Gate()
    errors: list[Exception] = []
    worker = LatestWorker(gate, errors.append, name="test")
    for item in (-1, 2):
        worker.submit(item)
        assert gate.started.acquire(timeout=TIMEOUT_S)
        gate.let_go.release()
    worker.stop()
    assert [str(error) for error in errors] == ["item -1"]
    assert gate.done == [2]
    assert (worker.counts.failed, worker.counts.finished) == (1, 1)


def test_stop_drops_what_waits_and_ends_the_thread():
    gate = Gate()
    worker = LatestWorker(gate, lambda _: None, name="test-stop")
    worker.submit(1)
    assert gate.started.acquire(timeout=TIMEOUT_S)
    worker.submit(2)
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    while not worker._stopping:
        pass
    gate.let_go.release()
    stopper.join(TIMEOUT_S)
    assert gate.done == [1]
    assert "test-stop" not in {thread.name for thread in threading.enumerate()}
