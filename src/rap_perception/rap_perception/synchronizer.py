"""Puts the images of several cameras together into one instant.

One camera, the anchor, sets the pace; the others join with the image closest to the anchor's stamp
if that is within the tolerance. A camera that is late or dead is left out: nothing waits for it
longer than `max_wait_s`, and not at all once it was missing in some sets in a row. Each image that
comes to nothing is counted by cause. Stamps and clock readings are passed in, so the logic has no
clock.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

from rap_raster.step_pacer import StepPacer

Item = TypeVar("Item")

KEPT_IMAGES = 4
"""Per camera: enough to find the image next to an anchor that arrives late."""

JUMP_NS = 1_000_000_000
"""A camera's stamps that go back further than this mean that time did (a bag that loops)."""

PATIENCE = 3
"""A camera missing in this many sets in a row is not waited for until it comes in time again."""


class Dropped(Enum):
    """Why an image came to nothing."""

    LATE = "late"
    """Older than the newest set allows."""
    OUT_OF_ORDER = "out of order"
    """Not newer than the camera's image before it."""
    SUPERSEDED = "superseded"
    """No set was near, and newer ones came: too many images, or an anchor that is slower."""
    TIME_JUMP = "time jump"
    """Waiting when stamps went back."""


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """How images are put together.

    Attributes:
        anchor: Name of the camera that sets the pace.
        tolerance_s: Largest stamp difference to the anchor.
        max_wait_s: How long to wait for the others after the anchor's image came.
        anchor_timeout_s: After this long without an anchor image, another camera takes over.
        rate_hz: Highest rate of sets; images in between are superseded.
    """

    anchor: str
    tolerance_s: float
    max_wait_s: float
    anchor_timeout_s: float
    rate_hz: float


@dataclass(frozen=True, slots=True)
class ImageSet(Generic[Item]):
    """Images of one instant.

    Attributes:
        stamp_ns: The anchor's stamp.
        images: Camera name to (stamp_ns, image); missing cameras are absent.
    """

    stamp_ns: int
    images: dict[str, tuple[int, Item]]


@dataclass(slots=True)
class CameraCounts:
    """What happened to the images of one camera.

    Attributes:
        received: Images taken in.
        used: Images that became part of a set; in several at most counted once.
        missing: Sets given out without this camera ...
        missing_in_a_row: ... and how many of the newest ones.
        dropped: Images by the reason why they came to nothing.
    """

    received: int = 0
    used: int = 0
    missing: int = 0
    missing_in_a_row: int = 0
    dropped: Counter[Dropped] = field(default_factory=Counter)


@dataclass(slots=True)
class SyncCounts:
    """What happened so far.

    Attributes:
        sets: Sets given out.
        incomplete: Sets in which at least one camera was missing.
        cameras: By name.
    """

    sets: int
    incomplete: int
    cameras: dict[str, CameraCounts]


@dataclass(slots=True)
class _Kept(Generic[Item]):
    stamp_ns: int
    item: Item
    used: bool = False


class Synchronizer(Generic[Item]):
    """Collects images and gives out sets."""

    def __init__(self, names: Sequence[str], settings: SyncSettings) -> None:
        """Starts empty.

        Args:
            names: All cameras; in this order they take over from a silent anchor.
            settings: See `SyncSettings`.

        Raises:
            ValueError: If the anchor is not one of the cameras.
        """
        if settings.anchor not in names:
            raise ValueError(f"sync.anchor: {settings.anchor!r} is not one of {list(names)}")
        self._names = tuple(names)
        self._settings = settings
        self.counts = SyncCounts(0, 0, {name: CameraCounts() for name in names})
        self._kept: dict[str, deque[_Kept[Item]]] = {name: deque() for name in names}
        self.restart()

    def restart(self) -> None:
        """Forgets all images; what was counted stays."""
        for name, images in self._kept.items():
            while images:
                self._forget(name, Dropped.TIME_JUMP)
        self._pacer = StepPacer(self._settings.rate_hz)
        self._anchored: tuple[int, int] | None = None  # newest image of the anchor: stamp, clock
        self._given: tuple[int, int] | None = None  # newest set: stamp, clock when its anchor came
        self._waiting: tuple[int, int] | None = None  # anchor stamp, clock when it came
        self._back: dict[str, int] = {}  # stamp of a camera's last image if that was far back

    def add(self, name: str, stamp_ns: int, item: Item, now_ns: int) -> list[ImageSet[Item]]:
        """Takes an image in.

        Args:
            name: Camera name.
            stamp_ns: The image's stamp.
            item: The image, untouched.
            now_ns: Reading of any steady clock.

        Returns:
            The sets that became ready, oldest first: none, one, or two when the image shows that
            the set before it will not be completed any more.
        """
        counts = self.counts.cameras[name]
        counts.received += 1
        newest_ns = self._kept[name][-1].stamp_ns if self._kept[name] else None
        if self._went_back(name, stamp_ns, newest_ns):
            self.restart()
            newest_ns = None
        if self._given is not None and stamp_ns <= self._given[0] - self._tolerance_ns:
            counts.dropped[Dropped.LATE] += 1
            return []
        if newest_ns is not None and stamp_ns <= newest_ns:
            counts.dropped[Dropped.OUT_OF_ORDER] += 1
            return []
        self._keep(name, _Kept(stamp_ns, item))
        if self._just_missed(stamp_ns, now_ns):
            counts.missing_in_a_row = 0  # it is back; worth waiting for
        ready: list[ImageSet[Item]] = []
        if self._sets_the_pace(name, stamp_ns, now_ns):
            if self._waiting is not None:
                ready.append(self._give_out(*self._waiting))
            self._waiting = (stamp_ns, now_ns)
        return ready + self.poll(now_ns)

    def poll(self, now_ns: int) -> list[ImageSet[Item]]:
        """Returns the waiting set if it is complete or has waited long enough."""
        if self._waiting is None:
            return []
        stamp_ns, since_ns = self._waiting
        complete = all(
            self._has_nearest(name, stamp_ns)
            or self.counts.cameras[name].missing_in_a_row >= PATIENCE
            for name in self._names
        )
        if not complete and now_ns - since_ns < self._settings.max_wait_s * 1e9:
            return []
        self._waiting = None
        return [self._give_out(stamp_ns, since_ns)]

    def _went_back(self, name: str, stamp_ns: int, newest_ns: int | None) -> bool:
        """True if time did: far back are images of two cameras, or two rising ones in a row of one.

        One alone is a broken stamp, or of a second publisher, and would cost all cameras theirs.
        """
        if newest_ns is None and self._given is not None:
            newest_ns = self._given[0]
        if newest_ns is None or stamp_ns >= newest_ns - JUMP_NS:
            self._back.pop(name, None)
            return False
        before_ns = self._back.pop(name, None)
        others = any(abs(stamp_ns - other_ns) < JUMP_NS for other_ns in self._back.values())
        self._back[name] = stamp_ns
        return others or (before_ns is not None and stamp_ns > before_ns)

    @property
    def _tolerance_ns(self) -> int:
        return int(self._settings.tolerance_s * 1e9)

    def _keep(self, name: str, image: _Kept[Item]) -> None:
        if len(self._kept[name]) == KEPT_IMAGES:
            self._forget(name, Dropped.SUPERSEDED)
        self._kept[name].append(image)

    def _forget(self, name: str, cause: Dropped) -> None:
        """Gives up the oldest image of a camera."""
        if not self._kept[name].popleft().used:
            self.counts.cameras[name].dropped[cause] += 1

    def _sets_the_pace(self, name: str, stamp_ns: int, now_ns: int) -> bool:
        """True if this image starts a new set."""
        if name == self._settings.anchor:
            self._anchored = (stamp_ns, now_ns)
        elif self._anchored is None:
            self._anchored = (stamp_ns, now_ns)  # from now on the anchor is awaited
            return False
        elif not self._stands_in(name, stamp_ns, now_ns, *self._anchored):
            return False
        is_newer = self._given is None or stamp_ns > self._given[0]
        return is_newer and self._pacer.is_due(stamp_ns)

    def _stands_in(
        self, name: str, stamp_ns: int, now_ns: int, anchor_ns: int, anchor_came_ns: int
    ) -> bool:
        """True if the anchor is silent and this camera is the first one that is not.

        Silent by stamps, because a slow replay is not silence; and by the clock, because the stamps
        of a camera whose clock is ahead say nothing about the anchor.
        """
        timeout_ns = self._settings.anchor_timeout_s * 1e9
        if stamp_ns - anchor_ns <= timeout_ns or now_ns - anchor_came_ns <= timeout_ns:
            return False
        alive = [
            other
            for other in self._names
            if self._kept[other] and stamp_ns - self._kept[other][-1].stamp_ns <= timeout_ns
        ]
        return alive[0] == name

    def _closest(self, name: str, stamp_ns: int) -> _Kept[Item] | None:
        images = self._kept[name]
        if not images:
            return None
        best = min(images, key=lambda image: abs(image.stamp_ns - stamp_ns))
        return best if abs(best.stamp_ns - stamp_ns) <= self._tolerance_ns else None

    def _has_nearest(self, name: str, stamp_ns: int) -> bool:
        """True if there is an image of a camera to which none that may still come is nearer."""
        best, images = self._closest(name, stamp_ns), self._kept[name]
        if best is None:
            return False
        if best.stamp_ns >= stamp_ns or len(images) < 2:
            return True
        period_ns = images[-1].stamp_ns - images[-2].stamp_ns
        return 2 * (stamp_ns - best.stamp_ns) <= period_ns

    def _just_missed(self, stamp_ns: int, now_ns: int) -> bool:
        """True if the newest set would have this image, had it waited as long as it may."""
        if self._given is None:
            return False
        given_ns, since_ns = self._given
        is_near = abs(stamp_ns - given_ns) <= self._tolerance_ns
        return is_near and now_ns - since_ns < self._settings.max_wait_s * 1e9

    def _give_out(self, stamp_ns: int, since_ns: int) -> ImageSet[Item]:
        images: dict[str, tuple[int, Item]] = {}
        for name in self._names:
            counts, found = self.counts.cameras[name], self._closest(name, stamp_ns)
            if found is None:
                counts.missing += 1
                counts.missing_in_a_row += 1
                continue
            counts.missing_in_a_row = 0
            counts.used += not found.used
            found.used = True
            images[name] = (found.stamp_ns, found.item)
        self._given = (stamp_ns, since_ns)
        self.counts.sets += 1
        self.counts.incomplete += len(images) < len(self._names)
        return ImageSet(stamp_ns, images)
