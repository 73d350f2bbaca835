"""Puts the images of several cameras together into one instant.

One camera, the anchor, sets the pace; the others join with the image closest to the anchor's stamp
if that is within the tolerance. A camera that is late or dead is left out, and nothing waits for it
longer than `max_wait_s`. Stamps and clock readings are passed in, so the logic has no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

KEPT_IMAGES = 4
"""Per camera: enough to find the image next to an anchor that arrives late."""


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """How images are put together.

    Attributes:
        anchor: Name of the camera that sets the pace.
        tolerance_s: Largest stamp difference to the anchor.
        max_wait_s: How long to wait for the others after the anchor's image came.
        anchor_timeout_s: After this long without an anchor image, another camera takes over.
    """

    anchor: str
    tolerance_s: float
    max_wait_s: float
    anchor_timeout_s: float


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
class SyncCounts:
    """What happened so far.

    Attributes:
        sets: Sets given out.
        incomplete: Sets in which at least one camera was missing.
        replaced: Anchor images given up because a newer one came.
        late: Images older than the last set given out, dropped.
        missing: Per camera, sets it was missing in.
    """

    sets: int
    incomplete: int
    replaced: int
    late: int
    missing: dict[str, int]


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
        self.counts = SyncCounts(0, 0, 0, 0, dict.fromkeys(names, 0))
        self._clear()

    def _clear(self) -> None:
        self._kept: dict[str, deque[tuple[int, Item]]] = {
            name: deque(maxlen=KEPT_IMAGES) for name in self._names
        }
        self._first_ns: int | None = None
        self._anchored_ns: int | None = None  # stamp of the newest image of the real anchor
        self._given_ns: int | None = None  # stamp of the newest set
        self._waiting: tuple[int, int] | None = None  # anchor stamp, clock when it came

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
        newest = self._kept[name][-1][0] if self._kept[name] else None
        if newest is not None and stamp_ns < newest - int(1e9):
            self._clear()  # time jumped back: a replay that loops
        if self._given_ns is not None and stamp_ns <= self._given_ns - self._tolerance_ns:
            self.counts.late += 1
            return []
        self._kept[name].append((stamp_ns, item))
        ready: list[ImageSet[Item]] = []
        if self._sets_the_pace(name, stamp_ns):
            if self._waiting is not None:
                self.counts.replaced += 1
                ready.append(self._give_out(self._waiting[0]))
            self._waiting = (stamp_ns, now_ns)
        return ready + self.poll(now_ns)

    def poll(self, now_ns: int) -> list[ImageSet[Item]]:
        """Returns the waiting set if it is complete or has waited long enough."""
        if self._waiting is None:
            return []
        stamp_ns, since_ns = self._waiting
        complete = all(self._closest(name, stamp_ns) is not None for name in self._names)
        if not complete and now_ns - since_ns < self._settings.max_wait_s * 1e9:
            return []
        self._waiting = None
        return [self._give_out(stamp_ns)]

    @property
    def _tolerance_ns(self) -> int:
        return int(self._settings.tolerance_s * 1e9)

    def _sets_the_pace(self, name: str, stamp_ns: int) -> bool:
        """True if this image starts a new set."""
        self._first_ns = stamp_ns if self._first_ns is None else self._first_ns
        if name == self._settings.anchor:
            self._anchored_ns = stamp_ns
            return self._given_ns is None or stamp_ns > self._given_ns
        timeout_ns = self._settings.anchor_timeout_s * 1e9
        seen_ns = self._first_ns if self._anchored_ns is None else self._anchored_ns
        if stamp_ns - seen_ns <= timeout_ns:
            return False
        alive = [
            other
            for other in self._names
            if self._kept[other] and stamp_ns - self._kept[other][-1][0] <= timeout_ns
        ]
        return bool(alive) and alive[0] == name

    def _closest(self, name: str, stamp_ns: int) -> tuple[int, Item] | None:
        images = self._kept[name]
        if not images:
            return None
        best = min(images, key=lambda image: abs(image[0] - stamp_ns))
        return best if abs(best[0] - stamp_ns) <= self._tolerance_ns else None

    def _give_out(self, stamp_ns: int) -> ImageSet[Item]:
        found = {name: self._closest(name, stamp_ns) for name in self._names}
        images = {name: image for name, image in found.items() if image is not None}
        self._given_ns = stamp_ns
        self.counts.sets += 1
        self.counts.incomplete += len(images) < len(self._names)
        for name in self._names:
            self.counts.missing[name] += name not in images
        return ImageSet(stamp_ns, images)
