from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rap_perception.synchronizer import Synchronizer, SyncSettings

MS = 1_000_000
SETTINGS = SyncSettings("front", tolerance_s=0.05, max_wait_s=0.03, anchor_timeout_s=0.3)


def synchronizer(*names: str) -> Synchronizer[str]:
    return Synchronizer(names or ("front", "left", "right"), SETTINGS)


def add(sync: Synchronizer[str], name: str, stamp_ms: int, clock_ms: int | None = None):
    clock_ms = stamp_ms if clock_ms is None else clock_ms
    return sync.add(name, stamp_ms * MS, f"{name}@{stamp_ms}", clock_ms * MS)


def test_a_complete_set_is_given_out_at_once_whatever_the_order():
    sync = synchronizer()
    assert add(sync, "left", 990) == []
    assert add(sync, "front", 1000) == []
    (images,) = add(sync, "right", 1020)
    assert images.stamp_ns == 1000 * MS
    assert {name: item for name, (_, item) in images.images.items()} == {
        "front": "front@1000",
        "left": "left@990",
        "right": "right@1020",
    }


def test_a_late_camera_is_left_out_after_the_waiting_time():
    sync = synchronizer()
    add(sync, "front", 1000)
    add(sync, "left", 1000)
    assert sync.poll(1029 * MS) == []
    (images,) = sync.poll(1030 * MS)
    assert set(images.images) == {"front", "left"}
    assert sync.counts.missing == {"front": 0, "left": 0, "right": 1}
    assert sync.counts.incomplete == 1


def test_an_image_outside_the_tolerance_does_not_join():
    sync = synchronizer("front", "left")
    add(sync, "left", 949)
    add(sync, "front", 1000)
    (images,) = sync.poll(2000 * MS)
    assert set(images.images) == {"front"}


def test_the_closest_image_joins_not_the_newest():
    sync = synchronizer("front", "left")
    add(sync, "left", 995)
    add(sync, "left", 1040)
    (images,) = add(sync, "front", 1000, 1041)
    assert images.images["left"] == (995 * MS, "left@995")


def test_an_image_from_before_the_last_set_is_dropped_and_counted():
    sync = synchronizer("front", "left")
    add(sync, "front", 1000)
    sync.poll(1100 * MS)
    assert add(sync, "left", 940, 1101) == []
    assert sync.counts.late == 1


def test_a_newer_anchor_gives_out_the_waiting_set_first():
    sync = synchronizer("front", "left")
    add(sync, "front", 1000, 1000)
    (first,) = add(sync, "front", 1020, 1020)
    assert first.stamp_ns == 1000 * MS
    assert sync.counts.replaced == 1
    (second,) = sync.poll(1050 * MS)
    assert second.stamp_ns == 1020 * MS


def test_a_silent_anchor_is_replaced_by_the_next_camera_and_comes_back():
    sync = synchronizer("front", "left")
    add(sync, "front", 0)
    add(sync, "left", 0)
    given_out = [images for ms in range(100, 1000, 100) for images in add(sync, "left", ms)]
    given_out += sync.poll(2000 * MS)
    stamps_ms = [images.stamp_ns // MS for images in given_out]
    assert stamps_ms[0] == 400  # 0.3 s after the last anchor image
    assert stamps_ms[-1] == 900
    assert all(set(images.images) == {"left"} for images in given_out)
    add(sync, "left", 1000, 3000)
    (both,) = [i for i in add(sync, "front", 1001, 3001) if i.stamp_ns == 1001 * MS] or [None]
    assert both is not None
    assert set(both.images) == {"front", "left"}


def test_an_anchor_that_never_came_does_not_stop_the_others():
    sync = synchronizer("front", "left")
    for ms in range(0, 500, 100):
        add(sync, "left", ms)
    assert sync.poll(10_000 * MS)


def test_time_jumping_back_starts_anew():
    sync = synchronizer("front", "left")
    add(sync, "front", 100_000)
    add(sync, "left", 100_000)
    add(sync, "left", 1000, 200_000)
    (images,) = add(sync, "front", 1000, 200_001)
    assert images.stamp_ns == 1000 * MS


def test_an_unknown_anchor_is_refused():
    with pytest.raises(ValueError, match=r"sync.anchor: 'front' is not one of \['left'\]"):
        Synchronizer(["left"], SETTINGS)


@given(
    st.lists(
        st.tuples(st.sampled_from(["front", "left", "right"]), st.integers(0, 2000)), max_size=60
    )
)
def test_sets_come_in_stamp_order_and_never_mix_images_beyond_the_tolerance(events):
    sync = synchronizer()
    given_out = []
    for clock, (name, stamp_ms) in enumerate(events):
        given_out += add(sync, name, stamp_ms, 10 * clock)
    for images in given_out:
        for stamp_ns, _ in images.images.values():
            assert abs(stamp_ns - images.stamp_ns) <= 50 * MS
    assert sync.counts.sets == len(given_out)
