"""The `rap` command: bags, replay, demo, warm-up, and the graph without the launch system."""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperCommand

from rap_bringup.bags import BagError, write_bag
from rap_bringup.console import progress_bar
from rap_bringup.drives.argoverse2 import read_argoverse2
from rap_bringup.drives.commonroad import read_commonroad
from rap_bringup.drives.dgp import read_dgp
from rap_bringup.drives.nuscenes import read_nuscenes
from rap_bringup.drives.recorded_drive import DriveError, RecordedDrive
from rap_bringup.paths import DEFAULT_BUNDLE, DEMO_DRIVE, PARAMS_FILE, resource
from rap_bringup.processes import REQUEST_SIGNALS, ProcessError, free_domain
from rap_inference.bundle import BundleError

if TYPE_CHECKING:
    from rap_bringup.answers import ReplayResult
    from rap_bringup.overlay_frames import OverlayFrame

REPORT_NAME = "report.json"
USER_ERRORS = (DriveError, BagError, BundleError, ProcessError, OSError, ValueError)

app = typer.Typer(
    name="rap",
    help="Brings the driving stack up: on bags, as a demo, or on a vehicle.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
bag_app = typer.Typer(
    name="bag",
    help="Makes a rosbag2 folder (mcap) of a public recording, or of one with other names.\n\n"
    "Example: rap bag nuscenes scene-0796.npz --out out/bags/scene-0796",
    no_args_is_help=True,
)
app.add_typer(bag_app)
overlay_app = typer.Typer(
    name="overlay",
    help="Draws boxes and map over the camera images of a public recording.\n\n"
    "Example: rap overlay dgp scene_02 --out out/overlay/scene_02",
    no_args_is_help=True,
)
app.add_typer(overlay_app)

Source = Annotated[Path, typer.Argument(help="The recording.", metavar="SOURCE")]
OutBag = Annotated[Path, typer.Option("--out", help="Folder to make; must be new or empty.")]
BundleOption = Annotated[
    Path | None, typer.Option("--bundle", help="Model bundle; default: models/default.")
]
RateOption = Annotated[
    float, typer.Option("--rate", min=0.05, max=10.0, help="Drive seconds per second.")
]
DomainOption = Annotated[
    int | None,
    typer.Option(
        "--domain-id",
        min=0,
        max=232,
        help="ROS domain to drive in; default: a free one, never that of this shell.",
    ),
]
OutPictures = Annotated[Path, typer.Option("--out", help="Folder for the pictures.")]
StyleOption = Annotated[str, typer.Option("--style", help="Raster style: rap, semantic or motion.")]
OVERLAY_STYLE = "semantic"
"""Of the two it draws more of the map, which is what is judged."""

console = Console(stderr=True)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns what a user can cause into one line and a non-zero exit."""
    try:
        yield
    except USER_ERRORS as error:
        _fail(" ".join(str(error).split()), error)
    except ImportError as error:
        reason = " ".join(str(error).split())
        _fail(f"{reason}: source your ROS, or run make setup and use no sourced ROS with it", error)


def _fail(line: str, error: Exception) -> NoReturn:
    console.print(f"rap: {line}", markup=False, soft_wrap=True)
    raise typer.Exit(1) from error


@bag_app.command("nuscenes")
def bag_nuscenes(source: Source, out: OutBag) -> None:
    """Objects, odometry, map and route of a nuScenes scene (.npz); no cameras."""
    _make_bag(read_nuscenes, source, out)


@bag_app.command("argoverse2")
def bag_argoverse2(source: Source, out: OutBag) -> None:
    """Objects, odometry, map and route of an Argoverse 2 log folder; no cameras."""
    _make_bag(read_argoverse2, source, out)


@bag_app.command("commonroad")
def bag_commonroad(source: Source, out: OutBag) -> None:
    """Objects, odometry, map and route of a CommonRoad scenario (.xml); no cameras.

    Scenarios have no recorded ego: the vehicle that drives farthest takes its place.
    """
    _make_bag(read_commonroad, source, out)


@bag_app.command("dgp")
def bag_dgp(source: Source, out: OutBag) -> None:
    """Six cameras, calibration, objects and odometry of a DGP scene folder; no map."""
    _make_bag(read_dgp, source, out)


@bag_app.command("ros2")
def bag_ros2(
    source: Annotated[
        Path, typer.Argument(help="A rosbag2 folder (sqlite3 or mcap).", metavar="SOURCE")
    ],
    out: OutBag,
    remap: Annotated[
        list[str] | None, typer.Option("--remap", help="FROM:=TO; once for each topic.")
    ] = None,
    start_s: Annotated[
        float, typer.Option("--start", min=0.0, help="Begin with this second of the recording.")
    ] = 0.0,
    duration_s: Annotated[
        float, typer.Option("--duration", min=0.1, help="End so many seconds later.")
    ] = math.inf,
) -> None:
    """A vehicle's own recording, whose topics have other names or other types of objects.

    Objects may be rap_msgs/TrackedObjects, Autoware's TrackedObjects, Detection3DArray,
    ObjectArray or MarkerArray, in map or base_link. Recordings may be of any length.

    Example: rap bag ros2 fleet/2026-03-01 --remap /localization/kinematic_state:=/odometry
    --remap /perception/object_recognition/tracking/objects:=/objects
    --start 600 --duration 300 --out out/bags/2026-03-01-600
    """
    from rap_bringup.bag_adapter import adapt_bag, parse_renames  # noqa: PLC0415 - see replay

    with one_line_errors():
        renames = parse_renames(remap or ())
        with progress_bar("writing") as report:
            adapted = adapt_bag(
                source, out, renames, start_s=start_s, duration_s=duration_s, report=report
            )
        for topic, count in sorted(adapted.counts.items()):
            sys.stdout.write(f"/{topic}: {count} messages\n")
        for line in adapted.left_out:
            sys.stdout.write(f"{line}\n")
        sys.stdout.write(f"{out}: written\n")


def _make_bag(read: Callable[[Path], RecordedDrive], source: Path, out: Path) -> None:
    with one_line_errors():
        with console.status(f"reading {source}"):
            drive = read(source)
            counts = write_bag(drive, out)
        sys.stdout.write(
            f"{out}: {drive.name}, {sum(counts.values())} messages on {len(counts)} topics, "
            f"route: {drive.route_source}, license: {drive.license}\n"
        )


@overlay_app.command("nuscenes")
def overlay_nuscenes(
    frame: Annotated[
        Path, typer.Argument(help="A keyframe: info.json and images.", metavar="FRAME_DIR")
    ],
    scene: Annotated[Path, typer.Option("--scene", help="The scene (.npz) it is from: the map.")],
    out: OutPictures,
    style: StyleOption = OVERLAY_STYLE,
) -> None:
    """Boxes and map over the cameras of a nuScenes keyframe.

    Leaves <camera>.png in full size and all_cameras.png.

    Example: rap overlay nuscenes frame_scene0061 --scene scene-0061.npz --out out/overlay/0061
    """
    from rap_bringup.overlay_frames import nuscenes_frames  # noqa: PLC0415 - see _overlay

    _overlay(lambda: nuscenes_frames(frame, scene), out, style)


@overlay_app.command("dgp")
def overlay_dgp(
    scene: Annotated[Path, typer.Argument(help="A DGP scene folder.", metavar="SCENE_DIR")],
    out: OutPictures,
    style: StyleOption = OVERLAY_STYLE,
) -> None:
    """Boxes over the cameras of every frame of a DGP scene; it has no map.

    Leaves a folder per frame, with <camera>.png in full size and all_cameras.png.

    Example: rap overlay dgp scene_02 --out out/overlay/scene_02
    """
    from rap_bringup.overlay_frames import dgp_frames  # noqa: PLC0415 - see _overlay

    _overlay(lambda: dgp_frames(scene), out, style)


def _overlay(read: Callable[[], list[OverlayFrame]], out: Path, style: str) -> None:
    from rap_bringup.overlay import write_overlays  # noqa: PLC0415 - loads the rasterizer
    from rap_raster.styles import load_style  # noqa: PLC0415

    with one_line_errors():
        look = load_style(style)
        with console.status("reading"):
            frames = read()
        with progress_bar("drawing") as progress:
            count = write_overlays(frames, out, look, progress)
        sys.stdout.write(f"{out}: {count} camera images, style {style}\n")


@app.command()
def replay(
    bag: Annotated[Path, typer.Argument(help="A rosbag2 folder (sqlite3 or mcap).")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")],
    *,
    bundle: BundleOption = None,
    params_file: Annotated[
        Path | None,
        typer.Option(
            "--params-file",
            help="Parameter file of your vehicle: its guard_node section (size, limits, checks) "
            "judges. By default the shipped one, with the simulated vehicle's steering limit.",
        ),
    ] = None,
    rate: RateOption = 1.0,
    domain_id: DomainOption = None,
) -> None:
    """Plays a bag through the real node processes.

    Leaves drive.mcap, summary.json and overview.png.

    Example: rap replay out/bags/scene-0796 --out out/replay/scene-0796
    """
    with one_line_errors():
        from rap_bringup.overview import write_overview  # noqa: PLC0415 - ROS is needed from here
        from rap_bringup.replay import replay as play  # noqa: PLC0415

        bundle_path = bundle or resource(DEFAULT_BUNDLE)
        domain = free_domain() if domain_id is None else domain_id
        with progress_bar(f"driving in ROS domain {domain}") as progress:
            result = play(
                bag,
                bundle_path,
                out,
                vehicle=params_file,
                rate=rate,
                domain=domain,
                progress=progress,
            )
        write_overview(result)
        _print_summary(result.summary, out)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path("out/demo"),
    bag: Annotated[
        Path | None, typer.Option("--bag", help="Drive to show; default: the bundled one.")
    ] = None,
    bundle: BundleOption = None,
    rate: RateOption = 1.0,
    domain_id: DomainOption = None,
) -> None:
    """Drives the bundled drive and leaves pictures of it.

    Example: rap demo --out out/demo
    """
    with one_line_errors():
        from rap_bringup.overview import write_overview  # noqa: PLC0415 - ROS is needed from here
        from rap_bringup.replay import replay as play  # noqa: PLC0415

        bag_path = bag or resource(DEMO_DRIVE)
        bundle_path = bundle or resource(DEFAULT_BUNDLE)
        domain = free_domain() if domain_id is None else domain_id
        with progress_bar(f"driving in ROS domain {domain}") as progress:
            result = play(bag_path, bundle_path, out, rate=rate, domain=domain, progress=progress)
        write_overview(result)
        viewer = _write_viewer_log(result)
        _print_summary(result.summary, out)
        sys.stdout.write(
            f"\nLook at   {out}/overview.png\n{viewer}\nOr open   {out}/drive.mcap in Foxglove\n"
        )


def _write_viewer_log(result: ReplayResult) -> str:
    """Returns how to look at `drive.rrd`, or why there is none: vehicles do without the viewer."""
    from rap_bringup.viewer_log import write_viewer_log  # noqa: PLC0415 - ROS, as all of a replay
    from rap_bringup.viewer_shapes import ViewerError  # noqa: PLC0415

    try:
        with progress_bar("writing drive.rrd") as progress:
            path = write_viewer_log(result, progress)
    except ViewerError as error:
        return f"No Rerun file: {error}"
    return f"Walk through the drive:  rerun {path}"


def _print_summary(summary: dict[str, object], out: Path) -> None:
    shown = (
        "steps",
        "trajectories",
        "max_gap_s",
        "latency_ms",
        "feature_source",
        "command_source",
        "ade_3s_m",
        "ade_3s_constant_velocity_m",
    )
    for name in shown:
        sys.stdout.write(f"{name:28} {summary[name]}\n")
    sys.stdout.write(f"{'written to':28} {out}\n")


@app.command("report")
def drive_report(
    bag: Annotated[
        Path, typer.Argument(help="A bag with /rap/state, or a drive.mcap of a replay.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")],
) -> None:
    """Tells what guard and planner did in a recorded drive, in shadow or active.

    Shares of the guard's states and the reason of every stop, latency, and how far plans are from
    what was driven. Leaves report.json and report.png.

    Example: rap report out/bags/first-shadow-drive --out out/report/first-shadow-drive
    """
    from rap_bringup.drive_report import read_drive, report  # noqa: PLC0415 - see replay
    from rap_bringup.drive_report_picture import write_picture  # noqa: PLC0415
    from rap_bringup.drive_report_text import as_text  # noqa: PLC0415

    with one_line_errors():
        with console.status(f"reading {bag}"):
            drive = read_drive(bag)
        found = report(drive)
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(found, indent=2, allow_nan=False) + "\n"
        (out / REPORT_NAME).write_text(text, encoding="utf-8")
        write_picture(drive, out)
        sys.stdout.write(f"{as_text(found)}{'written to':20} {out}\n")


@app.command()
def warmup(bundle: BundleOption = None) -> None:
    """Compiles the rasterizer's kernels into the cache and checks the bundle.

    Example: rap warmup
    """
    from rap_inference.bundle import load_bundle  # noqa: PLC0415 - only this command compiles
    from rap_inference.network import OnnxRuntimeNetwork  # noqa: PLC0415
    from rap_raster import rasterizer  # noqa: PLC0415

    with one_line_errors():
        started_s = time.perf_counter()
        with console.status("compiling the rasterizer"):
            rasterizer.warmup()
        compiled_s = time.perf_counter() - started_s
        loaded = load_bundle(bundle or resource(DEFAULT_BUNDLE))
        for network in (loaded.encoder_path, loaded.planner_path):
            OnnxRuntimeNetwork(network)
        sys.stdout.write(
            f"rasterizer ready in {compiled_s:.1f} s, bundle {loaded.manifest.name} is usable\n"
        )


@app.command()
def params() -> None:
    """Prints the parameters of the nodes of the stack as tables in Markdown.

    Example: rap params
    """
    with one_line_errors():
        from rap_bringup.ros.parameter_tables import PACKAGES, package_tables  # noqa: PLC0415 - ROS

        sys.stdout.write("\n".join(package_tables(package) for package in PACKAGES))


@app.command("build-engine")
def build_engine(
    backend: Annotated[
        str, typer.Option("--backend", help="tensorrt, tensorrt-rtx or tensorrt-ep.")
    ] = "tensorrt",
    bundle: BundleOption = None,
    cache_dir: Annotated[
        Path | None, typer.Option("--cache-dir", help="Default: ~/.cache/rap/engines.")
    ] = None,
    tf32: Annotated[bool, typer.Option("--tf32/--fp32", help="As the nodes' parameter.")] = True,
) -> None:
    """Builds a bundle's engines, so that no start has to: for provisioning, on the vehicle.

    What is there and fits stays. Ends with status 0 if every engine is in the cache afterwards,
    else with 1 and the reason in one line.

    Example: rap build-engine --backend tensorrt --bundle models/default
    """
    from rap_inference.backends import (  # noqa: PLC0415 - only this command builds
        InferenceSettings,
        build_engines,
    )
    from rap_inference.bundle import load_bundle  # noqa: PLC0415
    from rap_inference.engine_cache import default_cache_dir  # noqa: PLC0415

    with one_line_errors():
        loaded = load_bundle(bundle or resource(DEFAULT_BUNDLE))
        settings = InferenceSettings(backend, cache_dir or default_cache_dir(), tf32=tf32)
        with console.status(f"building engines of {loaded.manifest.name}"):
            build_engines(loaded, settings)
        sys.stdout.write(f"{settings.cache_dir}: engines of {loaded.manifest.name} are ready\n")


class _WithRosArguments(TyperCommand):
    """A command that leaves what follows --ros-args alone, options of its own names included."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer's own click
        at = args.index("--ros-args") if "--ros-args" in args else len(args)
        return super().parse_args(ctx, [*args[:at], "--", *args[at:]])


@app.command(
    cls=_WithRosArguments,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def run(
    context: typer.Context,
    params_file: Annotated[
        Path | None, typer.Option("--params-file", help="Default: config/rap.param.yaml.")
    ] = None,
    respawn: Annotated[
        bool, typer.Option("--respawn/--no-respawn", help="Start a process that died again.")
    ] = True,
) -> None:
    """Runs the graph without the launch system, until Ctrl-C.

    One process drives, one guards; a map node joins when map.path is set in the parameters. What
    follows --ros-args goes to all of them, and wins over the parameter file. Ends with status 0
    when asked to by SIGINT, SIGTERM or SIGHUP (a terminal that closes), and with 1 and the reason
    in one line when a process cannot start.

    Example: rap run --params-file config/rap.param.yaml

    Example: rap run --no-respawn --ros-args -p guard_node:mode:=active

    Example: rap run --ros-args -r __ns:=/vehicle -r objects:=/perception/objects --log-level warn
    """
    from rap_bringup.graph_runner import run_graph  # noqa: PLC0415 - only this command runs it

    if context.args and context.args[0] != "--ros-args":
        raise typer.BadParameter(f"{context.args[0]}: unknown; ROS arguments follow --ros-args")
    with one_line_errors():
        status = run_graph(
            params_file or resource(PARAMS_FILE),
            _on_signals,
            lambda line: console.print(f"rap: {line}", markup=False, soft_wrap=True),
            respawn=respawn,
            ros_arguments=context.args[1:],
        )
        raise typer.Exit(status)


def _on_signals(request_stop: Callable[[], None]) -> None:
    """Has signals request a stop, so that children are ended in order."""

    def handle(number: int, frame: FrameType | None) -> None:
        request_stop()

    for number in REQUEST_SIGNALS:
        signal.signal(number, handle)


def main() -> None:
    """Entry point of the `rap` command."""
    app()


if __name__ == "__main__":
    main()
