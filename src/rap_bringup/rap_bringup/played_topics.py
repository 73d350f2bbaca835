"""Which topics of a recorded drive are played into a graph: what it reads, never what it writes.

A recording may hold the candidates, trajectories and diagnostics of the drive it was made on. The
guard would follow those candidates, and the controller's topic would have two publishers.
"""

from __future__ import annotations

from collections.abc import Iterable

CAMERA_SUFFIXES = ("camera_info", "image", "image/compressed")


def played_pattern(inputs: Iterable[str], namespace: str = "") -> str:
    """Returns a regular expression of whole topic names, for `ros2 bag play --regex`.

    Cameras may have any name; /tf_static is the same in every namespace.

    Args:
        inputs: Topics that the graph reads, such as `odometry` or `/localization/kinematic_state`.
        namespace: That of the nodes; relative names are inside it.
    """
    inside = f"/{namespace.strip('/')}/" if namespace.strip("/") else "/"
    names = [name if name.startswith("/") else inside + name for name in inputs]
    cameras = f"{inside}camera/[^/]+/({'|'.join(CAMERA_SUFFIXES)})"
    return "|".join(["/tf_static", *names, cameras])
