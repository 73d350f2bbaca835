"""Four 1920x1080 cameras at 10 Hz through the whole graph: frames used, latency, memory.

Images come from a process of their own, raw and as JPEG, with the shipped transport settings and
with those of a plain installation. Before each run of the graph a bare subscriber receives the same
images, so that a loaded machine can be told from a slow graph. Prints a table and a line of JSON.

A step counts as used if the guard's trajectory answers it; its latency is the time from the stamp
of its images, taken before they are published, to that trajectory. The model is an untrained `tiny`
for four cameras: speed does not depend on weights. The guard evaluates its checks and enforces none
of those that plans of an untrained model would fail. Memory is that of the drive process after the
warm-up, half way and at the end. Stolen is the share of the processors' time that other guests of
the host had while this machine wanted it: with more than a percent or two, no latency is its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rap_msgs.msg import Float64Stamped
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from rap_bringup.graph_params import GUARD, PERCEPTION, PLANNER, RASTER, load_params, write_params
from rap_bringup.paths import PARAMS_FILE, resource
from rap_bringup.processes import (
    DRIVE_MODULE,
    GUARD_MODULE,
    MALLOC,
    NodeProcess,
    free_domain,
    graph_environment,
    start,
    stop_all,
)
from rap_bringup.rotations import quaternion_from_rotation
from rap_inference.bundle import load_bundle
from rap_planner.checks import CHECKS
from rap_raster.encoder import nominal_rig
from rap_raster.ros.conversions import packed, stamp_ns, time_msg
from rap_raster.ros.qos import RESULT, SENSOR, STREAM

NAMES = ("front", "front_left", "front_right", "back")
WIDTH, HEIGHT, RATE_HZ = 1920, 1080, 10.0
FOCAL_PX = 1000.0
SPEED_MPS = 5.0
WARM_UP_S = 8.0
PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"

Row = dict[str, Any]


def main() -> None:
    """Measures all four and prints them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of each run (default: 60)")
    seconds = parser.parse_args().seconds
    domain = free_domain()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_bundle(folder / "bundle")
        rows = [
            measured(folder, payload, shipped=shipped, domain=domain, seconds=seconds)
            for shipped in (True, False)
            for payload in ("raw", "jpeg")
        ]
    columns = list(rows[0])
    print(" | ".join(columns))
    for row in rows:
        print(" | ".join(str(row[column]) for column in columns))
    print(json.dumps({"seconds": seconds, "rows": rows}))


def write_bundle(out: Path) -> None:
    """Writes a bundle of an untrained model for four cameras, and compiles the rasterizer."""
    # ruff: noqa: PLC0415 - torch, which the processes that publish and listen do without.
    from bench_planner import four_cameras

    from rap_raster import rasterizer
    from rap_training.config import load_config
    from rap_training.export import export_bundle
    from rap_training.model.rap_model import RapModel

    rasterizer.warmup()
    config = load_config(Path("tiny"))
    model = RapModel(config.model, initialised=False).eval()
    export_bundle(
        model,
        config,
        out,
        maps=(),
        data_license="",
        command="bench",
        metrics={},
        rig=four_cameras(config),
    )


def measured(folder: Path, payload: str, *, shipped: bool, domain: int, seconds: float) -> Row:
    """Runs a bare subscriber, then the graph; returns the figures of both."""
    set_environment(domain, shipped=shipped)
    bare = run(payload, seconds / 2, listen_bare, lambda: [])
    params = folder / "params.yaml"
    write_graph_params(folder / "bundle", payload, params)
    before = processor_times()
    graph = run(payload, seconds, listen_to_graph, lambda: start_graph(folder, params))
    stolen, total = processor_times() - before
    return {
        "images": payload,
        "settings": "shipped" if shipped else "plain",
        "bare p50 ms": percentile(bare, 50),
        "bare p99 ms": percentile(bare, 99),
        "bare received": share(bare),
        "p50 ms": percentile(graph, 50),
        "p99 ms": percentile(graph, 99),
        "steps used": share(graph),
        "images used": graph["images_used"],
        "memory MB": graph["memory_mb"],
        "stolen": f"{100.0 * stolen / total:.1f} %",
    }


def set_environment(domain: int, *, shipped: bool) -> None:
    """Sets what the processes that follow inherit."""
    os.environ.pop(PROFILE, None)
    os.environ.update(graph_environment(domain))
    if not shipped:
        for name in (PROFILE, *MALLOC):
            os.environ.pop(name, None)


def write_graph_params(bundle: Path, payload: str, path: Path) -> None:
    """Writes the shipped parameters with four cameras and a guard that lets plans pass."""
    params = load_params(resource(PARAMS_FILE))
    for node in (PERCEPTION, RASTER, PLANNER):
        params[node]["bundle.path"] = str(bundle)
    params[PERCEPTION] |= {"cameras.names": list(NAMES), "cameras.slots": list(NAMES)}
    params[PERCEPTION] |= {"cameras.compressed": payload == "jpeg", "sync.anchor": NAMES[0]}
    params[RASTER]["cameras.names"] = list(NAMES)
    for camera in nominal_rig(load_bundle(bundle)):
        pose = camera.ego_from_camera
        values = [*pose[:3, 3], *quaternion_from_rotation(pose[:3, :3])]
        params[PERCEPTION][f"cameras.extrinsics.{camera.name}"] = [float(x) for x in values]
    params[GUARD] |= {"mode": "active"}
    params[GUARD] |= {f"checks.{name}": "shadow" for name in CHECKS if name != "finite"}
    write_params(params, path)


def start_graph(folder: Path, params: Path) -> list[NodeProcess]:
    """Starts drive and guard process."""
    arguments = ["--ros-args", "--params-file", str(params)]
    modules = {"drive": DRIVE_MODULE, "guard": GUARD_MODULE}
    return [
        start(name, module, arguments, os.environ, folder / f"{name}.log")
        for name, module in modules.items()
    ]


def run(
    payload: str,
    seconds: float,
    listen: Callable[[str, Connection], None],
    start_processes: Callable[[], list[NodeProcess]],
) -> Row:
    """Runs publisher, listener and graph; returns what the listener saw after the warm-up."""
    context = mp.get_context("spawn")
    children = start_processes()
    (our_end, its_end), (seen_end, listener_end) = context.Pipe(), context.Pipe()
    publisher = context.Process(target=publish, args=(payload, its_end))
    listener = context.Process(target=listen, args=(payload, listener_end))
    try:
        publisher.start()
        listener.start()
        for end in (our_end, seen_end):
            end.recv()  # Ready.
        memory_mb = []
        for wait_s in (WARM_UP_S, 0.5 * seconds, 0.5 * seconds):
            time.sleep(wait_s)
            memory_mb.append(memory_of(children[0].process.pid if children else os.getpid()))
            for child in children:
                child.check()
        our_end.send("stop")
        published = our_end.recv()
        seen_end.send("stop")
        seen, images_used = seen_end.recv()
    finally:
        for process in (publisher, listener):
            process.join(5.0)
            process.kill()
        stop_all(children)
    begin_ns, end_ns = published[0] + int(1e9 * WARM_UP_S), published[-1] - int(5e8)
    counted = [stamp for stamp in published if begin_ns <= stamp <= end_ns]
    times_ms = [seen[stamp] for stamp in counted if stamp in seen]
    return {
        "times_ms": times_ms,
        "published": len(counted),
        "images_used": images_used,
        "memory_mb": ", ".join(f"{value:.0f}" for value in memory_mb),
    }


def publish(payload: str, pipe: Connection) -> None:
    """Publishes images, calibrations and odometry until told to stop; returns the stamps."""
    rclpy.init()
    node = Node("camera_source")
    kind, suffix = (Image, "") if payload == "raw" else (CompressedImage, "/compressed")
    images = [node.create_publisher(kind, f"camera/{n}/image{suffix}", SENSOR) for n in NAMES]
    infos = [node.create_publisher(CameraInfo, f"camera/{n}/camera_info", SENSOR) for n in NAMES]
    odometry = node.create_publisher(Odometry, "odometry", STREAM)
    message = image_message(payload)
    info = CameraInfo(height=HEIGHT, width=WIDTH, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [FOCAL_PX, 0.0, (WIDTH - 1) / 2, 0.0, FOCAL_PX, (HEIGHT - 1) / 2, 0.0, 0.0, 1.0]
    stamps: list[int] = []
    pipe.send("ready")
    due_s = time.monotonic()
    while not pipe.poll(max(0.0, due_s - time.monotonic())):
        due_s += 1.0 / RATE_HZ
        now_ns = node.get_clock().now().nanoseconds
        stamps.append(now_ns)
        odometry.publish(odometry_message(now_ns, 1e-9 * (now_ns - stamps[0])))
        for image_publisher, info_publisher in zip(images, infos, strict=True):
            message.header.stamp = info.header.stamp = time_msg(now_ns)
            info_publisher.publish(info)
            image_publisher.publish(message)
    pipe.send(stamps)


def image_message(payload: str) -> Image | CompressedImage:
    """Returns an image with something in it, which JPEG cannot shrink to nothing."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    pixels = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    if payload == "raw":
        data = packed("B", pixels)
        return Image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=3 * WIDTH, data=data)
    _, jpeg = cv2.imencode(".jpg", pixels)
    return CompressedImage(format="rgb8; jpeg compressed bgr8", data=packed("B", jpeg))


def odometry_message(stamp: int, driven_s: float) -> Odometry:
    """Returns a straight drive at constant speed."""
    message = Odometry(child_frame_id="base_link")
    message.header.stamp, message.header.frame_id = time_msg(stamp), "map"
    message.pose.pose.position.x = SPEED_MPS * driven_s
    message.twist.twist.linear.x = SPEED_MPS
    return message


def listen_bare(payload: str, pipe: Connection) -> None:
    """Receives the images alone; an instant has arrived with its last image."""
    rclpy.init()
    node = Node("bare_subscriber")
    arrived: dict[int, list[int]] = {}

    def receive(message: Image | CompressedImage) -> None:
        now_ns = node.get_clock().now().nanoseconds
        arrived.setdefault(stamp_ns(message.header.stamp), []).append(now_ns)

    kind, suffix = (Image, "") if payload == "raw" else (CompressedImage, "/compressed")
    for name in NAMES:
        node.create_subscription(kind, f"camera/{name}/image{suffix}", receive, SENSOR)
    pipe.send("ready")
    while not pipe.poll():
        rclpy.spin_once(node, timeout_sec=0.1)
    whole = {stamp: times for stamp, times in arrived.items() if len(times) == len(NAMES)}
    pipe.send(({stamp: 1e-6 * (max(times) - stamp) for stamp, times in whole.items()}, ""))


def listen_to_graph(payload: str, pipe: Connection) -> None:
    """Receives the latency of every answered step, and perception's count of images."""
    rclpy.init()
    node = Node("latency_listener")
    seen: dict[int, float] = {}
    counts: dict[str, str] = {}

    def receive(message: Float64Stamped) -> None:
        seen[stamp_ns(message.stamp)] = message.data

    def note(message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "perception_node":
                counts.update({value.key: value.value for value in status.values})

    node.create_subscription(Float64Stamped, "rap/latency/end_to_end", receive, RESULT)
    node.create_subscription(DiagnosticArray, "/diagnostics", note, STREAM)
    pipe.send("ready")
    while not pipe.poll():
        rclpy.spin_once(node, timeout_sec=0.1)
    used, received = (
        sum(int(counts.get(f"camera {name}: {what}", "0")) for name in NAMES)
        for what in ("used", "received")
    )
    pipe.send((seen, f"{used} of {received} received"))


def processor_times() -> npt.NDArray[np.int64]:
    """Returns stolen and total processor time since the machine started, in ticks; see proc(5)."""
    ticks = np.array(Path("/proc/stat").read_text(encoding="utf-8").split()[1:9], dtype=np.int64)
    return np.array([ticks[7], ticks.sum()])


def memory_of(process_id: int) -> float:
    """Returns the resident memory of a process in MB."""
    for line in Path(f"/proc/{process_id}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def percentile(result: Row, level: float) -> float:
    """Returns a percentile of the latencies, ms."""
    times_ms = result["times_ms"]
    return round(float(np.percentile(times_ms, level)), 1) if times_ms else float("nan")


def share(result: Row) -> str:
    """Returns how many of the published instants arrived."""
    arrived, published = len(result["times_ms"]), result["published"]
    return f"{100.0 * arrived / max(published, 1):.1f} % of {published}"


if __name__ == "__main__":
    main()
