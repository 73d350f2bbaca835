"""Work that is done here: order, progress and one worker for all; the cluster has slow tests."""

from __future__ import annotations

import pytest

from rap_evaluation.sharding import ShardingError, process


def test_results_come_in_the_order_of_the_items_from_one_worker():
    made = []

    def make_worker():
        calls = []
        made.append(calls)
        return lambda item: calls.append(item) or (item.upper(), len(calls))

    results = process(["c", "a", "b"], make_worker)
    assert results == [("C", 1), ("A", 2), ("B", 3)]
    assert made == [["c", "a", "b"]]


def test_progress_is_told_after_every_item():
    events = []
    process(
        range(4),
        lambda: lambda item: events.append(f"item {item}"),
        report=events.append,
    )
    assert events == ["item 0", 0.25, "item 1", 0.5, "item 2", 0.75, "item 3", 1.0]


def test_results_are_handed_on_before_the_next_item_is_begun():
    events = []
    process([1, 2], lambda: lambda item: events.append(f"item {item}") or item, keep=events.append)
    assert events == ["item 1", 1, "item 2", 2]


def test_nothing_to_do_is_done():
    assert process([], lambda: str) == []


def test_an_error_of_a_worker_is_not_hidden():
    with pytest.raises(ValueError, match="no such lane"):
        process([1], lambda: _fail)


def _fail(item):
    raise ValueError("no such lane")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nonsense", "ray: no cluster at nonsense: expected local or HOST:PORT"),
        ("localhost:1", "ray: no cluster at localhost:1: "),
    ],
)
def test_a_wrong_address_is_told_before_any_work(address, message):
    pytest.importorskip("ray", reason="ray is not installed: run make setup")
    with pytest.raises(ShardingError, match=message):
        process([1], lambda: _fail, ray_address=address)
