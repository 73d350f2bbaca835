"""Camera and transform messages to what the library reads."""

from __future__ import annotations

from typing import Any

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from rap_perception.images import Image as Pixels
from rap_perception.images import decode_compressed, decode_raw, reduce_image
from rap_perception.transform_tree import TransformError, TransformTree


def pixels(message: Image | CompressedImage, reduction: int) -> Pixels:
    """Decodes an image message, shrunk by `reduction`; raises ImageError."""
    data = np.asarray(message.data)
    if isinstance(message, CompressedImage):
        return decode_compressed(data, reduction)
    image = decode_raw(
        data,
        message.encoding,
        message.width,
        message.height,
        message.step,
        is_bigendian=bool(message.is_bigendian),
    )
    return reduce_image(image, reduction)


def add_transforms(tree: TransformTree, message: Any) -> None:  # noqa: ANN401 - tf2_msgs/TFMessage
    """Adds the transforms of a message to a tree.

    Raises:
        TransformError: About the first unfit one; all others have been added.
    """
    problem: TransformError | None = None
    for stamped in message.transforms:
        shift, q = stamped.transform.translation, stamped.transform.rotation
        try:
            tree.add(
                stamped.header.frame_id,
                stamped.child_frame_id,
                np.array([shift.x, shift.y, shift.z]),
                np.array([q.x, q.y, q.z, q.w]),
            )
        except TransformError as error:
            problem = problem or error
    if problem is not None:
        raise problem
