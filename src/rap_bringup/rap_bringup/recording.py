"""`drive.mcap`: the inputs and outputs of one replay in a single file.

The file is standard MCAP with ROS 2 messages and their definitions: Foxglove, `rosbags` and
`mcap-ros2-support` read it as it is. Log times are drive times.
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError

from rap_bringup.bag_types import RELIABLE, typestore
from rap_bringup.bags import BAG_VERSION, BagError

RECORDING_NAME = "drive.mcap"

OUTPUT_TYPES = {
    "rap/trajectory": "nav_msgs/msg/Path",
    "rap/candidates": "rap_msgs/msg/TrajectoryCandidates",
    "rap/state": "rap_msgs/msg/GuardState",
    "rap/latency/end_to_end": "rap_msgs/msg/Float64Stamped",
    "diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
}
"""Recorded answers. `rap/features` is counted but not kept: it is as large as the images."""


class Recording:
    """Writes one `drive.mcap`; may be called from several threads. A context manager."""

    def __init__(self, folder: Path) -> None:
        """Starts a recording.

        Args:
            folder: Where `drive.mcap` will be; an older one is replaced at the end.

        Raises:
            BagError: If the folder cannot be written.
        """
        self._target = folder / RECORDING_NAME
        self._part = folder / ".recording"
        self._lock = threading.Lock()
        self._connections: dict[str, Connection] = {}
        shutil.rmtree(self._part, ignore_errors=True)
        try:
            self._writer = Writer(
                self._part, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP
            )
            self._writer.open()
        except (OSError, WriterError) as error:
            raise BagError(f"{folder}: cannot be written: {error}") from error

    def write(self, stamp_ns: int, topic: str, type_name: str, raw: bytes) -> None:
        """Adds one serialized message."""
        with self._lock:
            if topic not in self._connections:
                self._connections[topic] = self._writer.add_connection(
                    f"/{topic}", type_name, typestore=typestore(), offered_qos_profiles=[RELIABLE]
                )
            self._writer.write(self._connections[topic], stamp_ns, raw)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Finishes the file; a failed replay keeps what it has, which is what one debugs with."""
        with self._lock:
            self._writer.close()
        files = list(self._part.glob("*.mcap"))
        if files:
            files[0].replace(self._target)
        shutil.rmtree(self._part, ignore_errors=True)
