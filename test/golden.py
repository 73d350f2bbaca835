"""Golden plans of the first seconds of `data/demo_drive`: how they are made and read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from rap_bringup.bag_types import typestore
from rap_inference.bundle import file_sha256

ROOT = Path(__file__).parents[1]
BAG, BUNDLE = ROOT / "data/demo_drive", ROOT / "models/default"
GOLDEN = ROOT / "data/golden_drive.json"
SECONDS = 4.0
"""Of the drive; 41 steps."""

EVERY = 5
"""Of the published poses, 0.1 s apart, these are at the planner's own instants."""


def sources() -> dict[str, str]:
    """Hashes of everything that decides what the plans are."""
    files = [BAG / "demo_drive.mcap", BUNDLE / "encoder.onnx", BUNDLE / "planner.onnx"]
    return {file.name: file_sha256(file) for file in files}


def cut_bag(folder: Path) -> Path:
    """Copies the first seconds of the demo drive, message by message, into a new bag."""
    with (
        Reader(BAG) as reader,
        Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer,
    ):
        begin_ns = min(s for c, s, _ in reader.messages() if c.topic.endswith("odometry"))
        connections = {
            c.id: writer.add_connection(
                c.topic,
                c.msgtype,
                typestore=typestore(),
                offered_qos_profiles=c.ext.offered_qos_profiles,
            )
            for c in reader.connections
        }
        for connection, stamp_ns, raw in reader.messages():
            if stamp_ns <= begin_ns + SECONDS * 1e9:
                writer.write(connections[connection.id], stamp_ns, raw)
    return folder


def replayed(folder: Path) -> Path:
    """Plays those seconds through the real nodes; returns the folder of the results."""
    cut_bag(folder / "bag")
    out = folder / "out"
    arguments = ["replay", folder / "bag", "--bundle", BUNDLE, "--out", out]
    environment = {k: v for k, v in os.environ.items() if k != "ROS_DOMAIN_ID"}
    done = subprocess.run(
        [sys.executable, "-m", "rap_bringup.cli", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def candidates(out: Path) -> dict[int, np.ndarray]:
    """Returns (K, n, 2) x, y, every 0.5 s, the best first, by the stamp of their input."""
    found = {}
    for stamp, message in _recorded(out, "/rap/candidates"):
        poses = np.reshape(message.poses, (message.num_candidates, message.num_poses, 3))
        found[stamp] = poses[np.argsort(-np.asarray(message.scores), kind="stable"), :, :2]
    return found


def plans(out: Path) -> dict[int, np.ndarray]:
    """Returns (n, 2) x, y of the best candidate, every 0.5 s, by the stamp of its input."""
    return {stamp: xy[0] for stamp, xy in candidates(out).items()}


def trajectories(out: Path) -> dict[int, np.ndarray]:
    """Returns (n, 2) x, y of what was published, at the same times, by the stamp of its input."""
    found: dict[int, np.ndarray] = {}
    for stamp, message in _recorded(out, "/rap/trajectory"):
        points = [(pose.pose.position.x, pose.pose.position.y) for pose in message.poses]
        if len(points) > 1:
            found.setdefault(stamp, np.array(points[EVERY - 1 :: EVERY]))
    return found


def _recorded(out: Path, topic: str) -> Iterator[tuple[int, Any]]:
    with (out / "drive.mcap").open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        for *_, message in reader.iter_decoded_messages(topics=[topic]):
            stamp = message.header.stamp
            yield stamp.sec * 1_000_000_000 + stamp.nanosec, message


def write(out: Path) -> int:
    """Makes a replay the golden one; returns the number of plans."""
    found = {str(stamp): np.round(xy, 3).tolist() for stamp, xy in sorted(plans(out).items())}
    content = {"sources": sources(), "plans": found}
    GOLDEN.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    return len(found)
