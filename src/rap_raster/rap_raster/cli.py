"""The command `rap-raster`: draws scene files and times the drawing."""

from __future__ import annotations

import gc
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import cv2
import numpy as np
import typer
from typer.exceptions import TyperException

from rap_raster.camera import CameraModel
from rap_raster.rasterizer import CHANNELS, Image, build_geometry, render
from rap_raster.scene import Scene
from rap_raster.scene_json import MAX_IMAGE_PX, SceneError, load_scene
from rap_raster.styles import Style, StyleError, load_style

app = typer.Typer(add_completion=False, help="Draws driving scenes as cheap 3D rasters.")

_ALL_CHANNELS = ",".join(CHANNELS)
_SIZE = re.compile(r"([0-9]{1,6})x([0-9]{1,6})")

_RENDER_EXAMPLES = """
Draws every camera of a scene file.

Per camera: <name>.npz with exactly the channels asked for, all unless told otherwise, and
<name>.png if rgb is one of them.

Examples:

  rap-raster render docs/examples/scene.json --out out/scene

  rap-raster render docs/examples/scene.json --out out/scene --style semantic --size 512x256

  rap-raster render docs/examples/scene.json --out out/scene --channels class,depth

  rap-raster render docs/examples/scene.json --out out/scene --size 512x256 --supersample

  rap-raster render docs/examples/scene.json --out out/scene --backend warp
"""

_BENCH_EXAMPLES = """
Times the drawing of every camera of a scene file: warm, in one thread, one image = one frame.

Example:

  rap-raster bench docs/examples/scene.json --size 512x256 --channels rgb --repeat 200
"""

_SceneFile = Annotated[Path, typer.Argument(metavar="SCENE.json", help="Scene file, rap.scene/1.")]
_Size = Annotated[str | None, typer.Option(metavar="WxH", help="Resize every camera first.")]
_Channels = Annotated[str, typer.Option(help=f"Comma-separated, any of {','.join(CHANNELS)}.")]
_StyleName = Annotated[str, typer.Option(help="Raster style: rap, semantic or motion.")]
_Backend = Annotated[str, typer.Option(help="What draws: cpu, or warp (on a GPU if there is one).")]


class _UsageError(ValueError):
    """A wrong option; the text names it in one line."""


def main() -> None:
    """Runs the command; bad input becomes one line on stderr and a non-zero exit code."""
    try:
        app(standalone_mode=False)
    except TyperException as error:
        _fail(error.format_message(), error.exit_code)
    except (SceneError, StyleError, _UsageError) as error:
        _fail(str(error), 1)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}", 1)


def _fail(reason: str, exit_code: int) -> NoReturn:
    sys.stderr.write(f"rap-raster: {' '.join(reason.split())}\n")
    sys.exit(exit_code)


@app.command(name="render", help=_RENDER_EXAMPLES)
def render_command(
    scene_file: _SceneFile,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the images.")],
    size: _Size = None,
    channels: _Channels = _ALL_CHANNELS,
    style: _StyleName = "rap",
    *,
    supersample: Annotated[
        bool, typer.Option("--supersample", help="Antialias rgb: 2 x 2 samples per pixel.")
    ] = False,
    backend: _Backend = "cpu",
) -> None:
    """Draws every camera of a scene file."""
    draw = _renderer(backend)
    scene, cameras, names, look = _inputs(scene_file, size, channels, style)
    geometry = build_geometry(scene, replace(look, supersample=2) if supersample else look)
    out.mkdir(parents=True, exist_ok=True)
    for camera in cameras:
        images = draw(geometry, camera, names)
        arrays: dict[str, Any] = dict(images)
        np.savez_compressed(out / f"{camera.name}.npz", **arrays)
        if "rgb" in images:
            _write_png(out / f"{camera.name}.png", images["rgb"])


@app.command(name="bench", help=_BENCH_EXAMPLES)
def bench_command(
    scene_file: _SceneFile,
    size: _Size = None,
    channels: _Channels = "rgb",
    repeat: Annotated[int, typer.Option(help="How often to draw every camera.")] = 100,
    style: _StyleName = "rap",
) -> None:
    """Times the drawing of every camera of a scene file."""
    if repeat < 1:
        raise _UsageError(f"--repeat: must be >= 1, got {repeat}")
    scene, cameras, names, look = _inputs(scene_file, size, channels, style)
    if not cameras:
        raise _UsageError(f"{scene_file}: cameras: nothing to draw, the list is empty")
    sys.stdout.write(json.dumps(_timings(scene, cameras, names, look, repeat)) + "\n")


def _renderer(backend: str) -> Callable[..., dict[str, Image]]:
    """Returns what `rasterizer.render` is for that backend."""
    if backend == "cpu":
        return render
    if backend != "warp":
        raise _UsageError(f"--backend: unknown {backend!r}, expected any of cpu,warp")
    try:
        from rap_raster.warp_backend import (  # noqa: PLC0415 - optional, imported where it is used
            WarpRasterizer,
        )
    except ImportError as error:
        raise _UsageError(f"--backend: {error}") from error
    return WarpRasterizer().render


def _inputs(
    scene_file: Path, size: str | None, channels: str, style: str
) -> tuple[Scene, list[CameraModel], tuple[str, ...], Style]:
    """Checks everything before anything is drawn or written."""
    names = _channel_names(channels)
    resized = _image_size(size) if size is not None else None
    look = load_style(style)
    scene, cameras = load_scene(scene_file)
    if resized is not None:
        cameras = [camera.resized(*resized) for camera in cameras]
    return scene, cameras, names, look


def _channel_names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in CHANNELS:
            raise _UsageError(f"--channels: unknown {name!r}, expected any of {','.join(CHANNELS)}")
    return names


def _image_size(text: str) -> tuple[int, int]:
    match = _SIZE.fullmatch(text)
    sides = tuple(int(side) for side in match.groups()) if match else ()
    if not sides or not all(1 <= side <= MAX_IMAGE_PX for side in sides):
        raise _UsageError(
            f"--size: must be WIDTHxHEIGHT with sides in 1..{MAX_IMAGE_PX}, got {text!r}"
        )
    return sides[0], sides[1]


def _write_png(path: Path, rgb: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    written, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not written:
        raise OSError(0, "cannot be encoded as PNG", str(path))
    path.write_bytes(data.tobytes())


def _timings(
    scene: Scene, cameras: list[CameraModel], names: tuple[str, ...], style: Style, repeat: int
) -> dict[str, float]:
    geometry = build_geometry(scene, style)
    buffers = [render(geometry, camera, names) for camera in cameras]
    build_ms = []
    for _ in range(min(repeat, 100)):
        start = time.perf_counter()
        geometry = build_geometry(scene, style)
        build_ms.append(1e3 * (time.perf_counter() - start))
    frame_ms = []
    gc.disable()
    for _ in range(repeat):
        for camera, images in zip(cameras, buffers, strict=True):
            start = time.perf_counter()
            render(geometry, camera, names, images)
            frame_ms.append(1e3 * (time.perf_counter() - start))
    gc.enable()
    return {
        "ms_per_frame": float(np.median(frame_ms)),
        "p95_ms": float(np.percentile(frame_ms, 95)),
        "build_ms": float(np.median(build_ms)),
        "frames": len(frame_ms),
    }
