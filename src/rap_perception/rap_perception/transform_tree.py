"""Static transforms between named frames, as `/tf_static` gives them."""

from __future__ import annotations

import numpy as np

from rap_perception.rig import QUATERNION_NORM_TOLERANCE, rotation_from_quaternion
from rap_raster.frames import FloatArray, inverse


class TransformError(ValueError):
    """A transform that cannot be used; the text names the frames and what is wrong."""


class TransformTree:
    """A tree of frames, each with one parent."""

    def __init__(self) -> None:
        """Starts empty."""
        self._parents: dict[str, tuple[str, FloatArray]] = {}

    def add(
        self, parent: str, child: str, translation_m: FloatArray, quaternion: FloatArray
    ) -> None:
        """Sets or replaces where a frame is.

        Args:
            parent: Frame that `child` is fixed to.
            child: The frame.
            translation_m: (3,) origin of the child in its parent.
            quaternion: (4,) x, y, z, w: child axes to parent axes.

        Raises:
            TransformError: If the numbers are not finite or the quaternion is not of unit length.
        """
        values = np.concatenate([translation_m, quaternion])
        norm = float(np.linalg.norm(quaternion)) if np.isfinite(values).all() else np.nan
        if not abs(norm - 1.0) <= QUATERNION_NORM_TOLERANCE:
            raise TransformError(
                f"transform from {parent!r} to {child!r} is {values.tolist()}, expected finite "
                "numbers and a quaternion of length 1"
            )
        transform = np.eye(4)
        transform[:3, :3] = rotation_from_quaternion(quaternion / norm)
        transform[:3, 3] = translation_m
        self._parents[child] = (parent, transform)

    def look_up(self, target: str, source: str) -> FloatArray:
        """Returns the (4, 4) transform that takes points of `source` to `target`.

        Raises:
            TransformError: If the frames are not connected.
        """
        from_source, from_target = self._ancestors(source), self._ancestors(target)
        for frame, frame_from_source in from_source.items():
            if frame in from_target:
                transform: FloatArray = inverse(from_target[frame]) @ frame_from_source
                return transform
        raise TransformError(
            f"no chain of static transforms from {target!r} to {source!r}; that one hangs below "
            f"{list(from_source)[-1]!r}"
        )

    def _ancestors(self, frame: str) -> dict[str, FloatArray]:
        """Returns a frame and all above it, each with the transform from `frame` to it."""
        chain = {frame: np.eye(4)}
        while frame in self._parents:
            parent, parent_from_frame = self._parents[frame]
            if parent in chain:
                break  # a loop: there is nothing above it
            chain[parent] = parent_from_frame @ chain[frame]
            frame = parent
        return chain
