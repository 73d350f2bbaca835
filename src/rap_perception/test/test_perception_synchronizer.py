from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rap_perception.synchronizer import (
    KEPT_IMAGES,
    PATIENCE,
    Dropped,
    Synchronizer,
    SyncSettings,
)

MS = 1_000_000
SETTINGS = SyncSettings(
    "front", tolerance_s=0.05, max_wait_s=0.03, anchor_timeout_s=0.3, rate_hz=100.0
)


def synchronizer(*names: str) -> Synchronizer[str]:
    return Synchronizer(names or ("front", "left", "right"), SETTINGS)


def dropped(sync: Synchronizer[str], name: str) -> dict[Dropped, int]:
    return {cause: count for cause, count in sync.counts.cameras[name].dropped.items() if count}


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
    assert [sync.counts.cameras[name].missing for name in ("front", "left", "right")] == [0, 0, 1]
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
    assert dropped(sync, "left") == {Dropped.LATE: 1}


def test_a_newer_anchor_gives_out_the_waiting_set_first():
    sync = synchronizer("front", "left")
    add(sync, "front", 1000, 1000)
    (first,) = add(sync, "front", 1020, 1020)
    assert first.stamp_ns == 1000 * MS
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
    add(sync, "front", 1001, 3001)
    add(sync, "left", 1100, 3100)
    (both,) = add(sync, "front", 1101, 3101)
    assert both.stamp_ns == 1101 * MS  # the anchor's stamp again
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
    assert add(sync, "left", 1000, 200_000) == []  # May be a broken stamp.
    assert add(sync, "front", 1000, 200_001) == []
    add(sync, "left", 1100, 200_100)
    (images,) = add(sync, "front", 1100, 200_101)
    assert (images.stamp_ns, set(images.images)) == (1100 * MS, {"front", "left"})
    assert dropped(sync, "front") == {}  # Those of before were part of a set.


def test_images_waiting_when_time_jumps_back_are_counted():
    sync = synchronizer("front", "left")
    for stamp_ms in (100_000, 1000, 1100):
        add(sync, "left", stamp_ms, 100_000)
    assert dropped(sync, "left") == {Dropped.OUT_OF_ORDER: 1, Dropped.TIME_JUMP: 1}


@pytest.mark.parametrize("broken", ["another publisher", "no stamp now and then"])
def test_bad_stamps_of_one_camera_cost_no_other_image(broken):
    sync, sets = synchronizer(), []
    for step in range(100):
        stamp_ms = 100_000 + 100 * step
        is_bad = broken == "no stamp now and then" and step % 3 == 1
        for name in ("front", "left", "right"):
            bad_ms = 0 if is_bad else stamp_ms
            sets += add(sync, name, bad_ms if name == "left" else stamp_ms, stamp_ms)
        if broken == "another publisher":
            sets += add(sync, "left", stamp_ms - 30_000, stamp_ms)
        sets += sync.poll((stamp_ms + 50) * MS)
    assert len(sets) == 100
    whole = sum(set(images.images) == {"front", "left", "right"} for images in sets)
    assert whole == (67 if broken == "no stamp now and then" else 100)


def test_a_camera_that_comes_up_after_time_went_back_is_heard():
    sync = synchronizer("front", "left")
    for stamp_ms in (100_000, 100_100):
        add(sync, "front", stamp_ms)
        sync.poll((stamp_ms + 50) * MS)
    for stamp_ms in range(1000, 2000, 100):
        add(sync, "left", stamp_ms, 100_200 + stamp_ms)
    assert dropped(sync, "left").get(Dropped.LATE, 0) <= 1


@pytest.mark.parametrize("rate_hz", [10, 20, 25, 30])
@pytest.mark.parametrize("later_ms", [-5, 5])
def test_a_camera_of_any_rate_joins_with_the_image_of_the_same_instant(rate_hz, later_ms):
    """Whichever of both comes first."""
    sync, ages = synchronizer("front", "left"), []
    arrivals = [
        (1000 * step / rate_hz + (later_ms if name == "left" else 0), name, 1000 * step // rate_hz)
        for step in range(1, 60)
        for name in ("front", "left")
    ]
    for clock_ms, name, stamp_ms in sorted(arrivals):
        for images in sync.add(name, stamp_ms * MS, name, round(clock_ms * MS)):
            ages.append(images.stamp_ns - images.images["left"][0])
    assert len(ages) >= 55
    assert set(ages[2:]) == {0}  # Then it is known how often the camera takes one.


def test_a_repeated_or_older_image_of_a_camera_is_dropped():
    sync = synchronizer("front", "left")
    for stamp_ms in (100, 100, 90):
        add(sync, "left", stamp_ms)
    assert dropped(sync, "left") == {Dropped.OUT_OF_ORDER: 2}


def test_a_dead_camera_costs_waiting_time_in_a_few_sets_only_and_may_come_back():
    sync = synchronizer("front", "left")
    add(sync, "left", 0)
    waited = []
    for k in range(1, 8):
        at_once = add(sync, "front", 100 * k)
        waited.append(not at_once)
        sync.poll((100 * k + 30) * MS)
    assert waited == [True] * PATIENCE + [False] * (7 - PATIENCE)
    add(sync, "left", 800)
    (both,) = add(sync, "front", 801)
    assert set(both.images) == {"front", "left"}
    assert add(sync, "front", 901) == []  # worth waiting for again


def drive_beside(late_ms: int, frames: range) -> tuple[Synchronizer[str], list[bool]]:
    """Drives at 10 Hz, the second camera in some frames only; returns which sets waited for it."""
    sync, waited = synchronizer("front", "left"), []
    for k in range(20):
        waited.append(not add(sync, "front", 100 * k))
        if late_ms < 30 and k in frames:
            add(sync, "left", 100 * k, 100 * k + late_ms)
        sync.poll((100 * k + 30) * MS)
        if late_ms >= 30 and k in frames:
            add(sync, "left", 100 * k, 100 * k + late_ms)
    return sync, waited


def test_a_camera_that_always_comes_too_late_delays_a_few_sets_only_and_stays_missing():
    sync, waited = drive_beside(45, range(20))
    assert waited == [True] * PATIENCE + [False] * (20 - PATIENCE)
    counts = sync.counts.cameras["left"]
    assert (counts.missing_in_a_row, counts.missing, counts.used) == (20, 20, 0)


def test_a_camera_that_comes_back_just_behind_the_anchor_joins_from_the_next_set_on():
    sync, waited = drive_beside(5, range(10, 20))
    assert waited == [True] * PATIENCE + [False] * (11 - PATIENCE) + [True] * 9
    counts = sync.counts.cameras["left"]
    assert (counts.missing_in_a_row, counts.missing, counts.used) == (0, 11, 9)


def test_a_camera_whose_clock_is_ahead_does_not_take_over_from_a_living_anchor():
    sync = synchronizer("front", "left")
    stamps_ms = []
    for k in range(20):
        given_out = add(sync, "left", 3_600_000 + 100 * k, 100 * k)
        given_out += add(sync, "front", 100 * k)
        given_out += sync.poll((100 * k + 40) * MS)
        stamps_ms += [images.stamp_ns // MS for images in given_out]
    assert stamps_ms == list(range(0, 2000, 100))


def test_a_slow_replay_is_not_taken_for_a_silent_anchor():
    """Ten seconds by the clock between images that are 0.1 s apart."""
    sync = synchronizer("front", "left")
    given_out = []
    for k in range(5):
        given_out += add(sync, "left", 100 * k + 1, 10_000 * k)
        given_out += add(sync, "front", 100 * k, 10_000 * k + 1)
    assert [images.stamp_ns // MS for images in given_out] == [0, 100, 200, 300, 400]
    assert sync.counts.incomplete == 0


def test_a_burst_is_thinned_to_the_highest_rate():
    sync = Synchronizer(["front"], replace(SETTINGS, rate_hz=10.0))
    given_out = [s for k in range(200) for s in add(sync, "front", 10 * k)]  # 100 Hz for 2 s
    assert 20 <= len(given_out) <= 26
    counts = sync.counts.cameras["front"]
    assert counts.received == 200
    assert counts.used == len(given_out)
    assert dropped(sync, "front").keys() == {Dropped.SUPERSEDED}


def test_an_unknown_anchor_is_refused():
    with pytest.raises(ValueError, match=r"sync.anchor: 'front' is not one of \['left'\]"):
        Synchronizer(["left"], SETTINGS)


@given(
    st.lists(
        st.tuples(st.sampled_from(["front", "left", "right"]), st.integers(0, 4000)), max_size=60
    )
)
def test_sets_never_mix_images_beyond_the_tolerance_and_every_image_is_accounted_for(events):
    sync = synchronizer()
    given_out = []
    for clock, (name, stamp_ms) in enumerate(events):
        given_out += add(sync, name, stamp_ms, 10 * clock)
    for images in given_out:
        for stamp_ns, _ in images.images.values():
            assert abs(stamp_ns - images.stamp_ns) <= 50 * MS
    assert sync.counts.sets == len(given_out)
    shown = [(name, item) for images in given_out for name, (_, item) in images.images.items()]
    for name, counts in sync.counts.cameras.items():
        unused_and_kept = counts.received - counts.used - counts.dropped.total()
        assert 0 <= unused_and_kept <= KEPT_IMAGES
        assert counts.used >= len({item for shown_name, item in shown if shown_name == name})
        assert counts.missing == sum(name not in images.images for images in given_out)
