"""The report's plots, as SVG that stands inside the page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rap_evaluation.closed_loop.drive import Drive
from rap_evaluation.metrics.pdm_scene import DT_S, StateIndex
from rap_raster.frames import FloatArray

_MAP_PX = 260
_MARGIN_M = 15.0
_SPEED_PX = (420, 120)
_LEFT_PX, _BOTTOM_PX = 34, 18
_BAR_PX = 18


def route_map(drive: Drive) -> str:
    """Returns the route, the driven path and where things went wrong, seen from above."""
    route = drive.route
    ahead = (route.along_m >= route.start_m) & (route.along_m <= route.goal_m)
    wanted = route.line_m[ahead, :2]
    driven = drive.states[:, :2]
    every = np.concatenate([wanted, driven])
    low, size_m = every.min(axis=0) - _MARGIN_M, float(np.ptp(every, axis=0).max()) + 2 * _MARGIN_M

    def pixels(points_m: FloatArray) -> FloatArray:
        scaled = (points_m - low) * (_MAP_PX / size_m)
        return np.stack([scaled[:, 0], _MAP_PX - scaled[:, 1]], axis=-1)

    events = drive.events
    marks = [
        ("hit" if collision.at_fault else "blameless", collision.step)
        for collision in events.collisions
    ]
    marks += [("red", step) for step in events.red_light_steps]
    marks += [("off", step) for step in list(events.off_road_m)[::10]]
    shapes = [
        _line(pixels(wanted), "route"),
        _line(pixels(driven), "driven"),
        *(_mark(pixels(driven[step][None])[0], kind) for kind, step in marks),
        _mark(pixels(wanted[-1:])[0], "goal"),
    ]
    return _svg(_MAP_PX, _MAP_PX, shapes)


def speed_plot(drive: Drive) -> str:
    """Returns the ego's speed over time."""
    width, height = _SPEED_PX
    speeds = drive.states[:, StateIndex.VX]
    top_mps = max(5.0, float(np.ceil(speeds.max() / 5.0)) * 5.0)
    end_s = max(drive.seconds, DT_S)
    times_s = DT_S * np.arange(len(speeds))
    x = _LEFT_PX + times_s / end_s * (width - _LEFT_PX - 4)
    y = (height - _BOTTOM_PX) * (1.0 - speeds / top_mps)
    shapes = [
        _rule(_LEFT_PX, height - _BOTTOM_PX, width, height - _BOTTOM_PX),
        _rule(_LEFT_PX, 0, _LEFT_PX, height - _BOTTOM_PX),
        _text(0, 10, f"{top_mps:.0f} m/s"),
        _text(_LEFT_PX, height - 4, "0 s"),
        _text(width - 40, height - 4, f"{end_s:.0f} s"),
        _line(np.stack([x, y], axis=-1), "driven"),
    ]
    return _svg(width, height, shapes)


def score_bars(scores: Sequence[float]) -> str:
    """Returns the driving score of every route as a bar, 0 to 100."""
    height = 100
    bars = [
        f'<rect class="bar" x="{_LEFT_PX + index * _BAR_PX}" y="{height - score:.1f}" '
        f'width="{_BAR_PX - 4}" height="{score:.1f}"><title>route {index}: {score:.1f}</title>'
        "</rect>"
        for index, score in enumerate(scores)
    ]
    width = _LEFT_PX + _BAR_PX * len(scores) + 4
    shapes = [
        *bars,
        _rule(_LEFT_PX - 2, height, width, height),
        _text(0, 10, "100"),
        _text(0, height, "0"),
    ]
    return _svg(width, height + 4, shapes)


def _svg(width: int, height: int, shapes: Sequence[str]) -> str:
    return f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}">' + (
        "".join(shapes) + "</svg>"
    )


def _line(points_px: FloatArray, kind: str) -> str:
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points_px)
    return f'<polyline class="{kind}" points="{text}"/>'


def _mark(point_px: FloatArray, kind: str) -> str:
    return f'<circle class="{kind}" cx="{point_px[0]:.1f}" cy="{point_px[1]:.1f}" r="4"/>'


def _rule(x0: float, y0: float, x1: float, y1: float) -> str:
    return f'<line class="axis" x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}"/>'


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x}" y="{y}">{text}</text>'
