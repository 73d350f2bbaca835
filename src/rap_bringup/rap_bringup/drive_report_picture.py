"""`report.png`: a recorded drive over time and from above, coloured by the state of the guard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from rap_bringup.answers import GUARD_STATES
from rap_bringup.birds_eye import BACKGROUND, SUBPIXEL_BITS, TEXT, Canvas, Color
from rap_bringup.drive_report import SILENT, Episode, RecordedDrive, episodes, plan_errors
from rap_bringup.overview import MUTED
from rap_bringup.tiles import FONT
from rap_raster.frames import FloatArray

PICTURE_NAME = "report.png"

WIDTH, MAP_HEIGHT, STRIP_HEIGHT, CHART_HEIGHT = 1536, 520, 44, 130
LEFT, RIGHT, TOP, BOTTOM = 110, 24, 26, 12
"""Margins around what is drawn over time."""

STATE_COLORS: dict[str, Color] = {
    "waiting": (150, 150, 150),
    "nominal": (90, 190, 80),
    "hold_last": (60, 200, 240),
    "controlled_stop": (40, 120, 255),
    "mrm_request": (70, 60, 235),
    SILENT: (200, 60, 200),
}
CURVE: Color = (230, 190, 120)

Points = Sequence[tuple[float, float]]
"""Seconds since the guard's first cycle, and a value."""


def write_picture(drive: RecordedDrive, out: Path) -> Path:
    """Draws a drive and writes it.

    Returns:
        The file.

    Raises:
        OSError: If it cannot be written.
    """
    path = out / PICTURE_NAME
    if not cv2.imwrite(str(path), draw_drive(drive)):
        raise OSError(f"{path}: cannot be written")
    return path


def draw_drive(drive: RecordedDrive) -> Canvas:
    """Returns the picture, (H, W, 3) blue green red."""
    found = episodes(drive)
    end_s = max(drive.since_begin_s(drive.cycles[-1].stamp_ns), 1e-3)
    speeds = [(drive.since_begin_s(s.stamp_ns), s.vx_mps) for s in drive.states]
    latencies = [(drive.since_begin_s(stamp), ms) for stamp, ms in drive.latencies_ms]
    distances = [(drive.since_begin_s(stamp), error_m) for stamp, error_m, _ in plan_errors(drive)]
    return np.concatenate(
        [
            _from_above(drive, found),
            _strip(found, end_s),
            _chart("speed, m/s", speeds, end_s),
            _chart("latency, ms", latencies, end_s, dots=True),
            _chart("plan to driven path over 3 s, m", distances, end_s, dots=True),
        ]
    )


def _blank(height: int) -> Canvas:
    return np.full((height, WIDTH, 3), BACKGROUND, dtype=np.uint8)


def _from_above(drive: RecordedDrive, found: Sequence[Episode]) -> Canvas:
    """The driven path, coloured by the state, as large as it fits."""
    canvas = _blank(MAP_HEIGHT)
    cv2.putText(canvas, "driven path", (LEFT, TOP), FONT, 0.5, TEXT, 1, cv2.LINE_AA)
    _legend(canvas, {episode.state for episode in found})
    if len(drive.states) < 2:
        return canvas
    places = np.array([(state.x_m, state.y_m) for state in drive.states])
    times_s = np.array([drive.since_begin_s(state.stamp_ns) for state in drive.states])
    begins_s = np.array([episode.begin_s for episode in found])
    pixels = _fitted(places)
    which = np.searchsorted(begins_s, times_s[:-1], side="right") - 1
    for index, episode in enumerate(which):
        color = MUTED if episode < 0 else STATE_COLORS[found[episode].state]
        line = pixels[index : index + 2]
        cv2.polylines(canvas, [line], False, color, 4, cv2.LINE_AA, SUBPIXEL_BITS)
    return canvas


def _fitted(places_m: FloatArray) -> npt.NDArray[np.int32]:
    """Returns fixed-point pixels of (n, 2) places, north up."""
    room = np.array([WIDTH - LEFT - RIGHT, MAP_HEIGHT - 2 * TOP - BOTTOM])
    low, high = places_m.min(axis=0), places_m.max(axis=0)
    scale = float(min(room / np.maximum(high - low, 1.0)))
    centred = (places_m - 0.5 * (low + high)) * [scale, -scale]
    middle = [LEFT + 0.5 * room[0], 2 * TOP + 0.5 * room[1]]
    pixels: npt.NDArray[np.int32] = np.round((centred + middle) * (1 << SUBPIXEL_BITS)).astype(
        np.int32
    )
    return pixels


def _legend(canvas: Canvas, states: set[str]) -> None:
    left = LEFT + 140
    for name in (*GUARD_STATES, SILENT):
        if name in states:
            cv2.line(canvas, (left, TOP - 5), (left + 24, TOP - 5), STATE_COLORS[name], 6)
            cv2.putText(canvas, name, (left + 32, TOP), FONT, 0.5, TEXT, 1, cv2.LINE_AA)
            left += 60 + 10 * len(name)


def _column(time_s: float, end_s: float) -> int:
    return LEFT + round((WIDTH - LEFT - RIGHT) * min(max(time_s / end_s, 0.0), 1.0))


def _strip(found: Sequence[Episode], end_s: float) -> Canvas:
    """The state over time; every episode is at least one pixel wide, so that none is hidden."""
    canvas = _blank(STRIP_HEIGHT)
    cv2.putText(canvas, "guard", (16, 28), FONT, 0.5, TEXT, 1, cv2.LINE_AA)
    nominal_first = sorted(found, key=lambda episode: episode.state != "nominal")
    for episode in nominal_first:
        left = _column(episode.begin_s, end_s)
        right = max(left, _column(episode.begin_s + episode.seconds, end_s) - 1)
        cv2.rectangle(
            canvas, (left, 10), (right, STRIP_HEIGHT - 10), STATE_COLORS[episode.state], -1
        )
    return canvas


def _chart(label: str, points: Points, end_s: float, *, dots: bool = False) -> Canvas:
    canvas = _blank(CHART_HEIGHT)
    base = CHART_HEIGHT - BOTTOM
    cv2.putText(canvas, label, (LEFT, TOP - 8), FONT, 0.5, TEXT, 1, cv2.LINE_AA)
    cv2.line(canvas, (LEFT, base), (WIDTH - RIGHT, base), MUTED, 1)
    inside = [(time_s, value) for time_s, value in points if 0.0 <= time_s <= end_s]
    if not inside:
        cv2.putText(canvas, "not recorded", (LEFT + 8, 70), FONT, 0.5, MUTED, 1, cv2.LINE_AA)
        return canvas
    top_value = max([value for _, value in inside] + [1e-3])
    _axis(canvas, top_value, end_s)
    height = base - TOP
    pixels = np.array(
        [(_column(t, end_s), base - round(height * max(v, 0.0) / top_value)) for t, v in inside]
    )
    if dots:
        for x, y in pixels:
            cv2.circle(canvas, (int(x), int(y)), 2, CURVE, -1, cv2.LINE_AA)
    else:
        cv2.polylines(canvas, [pixels.astype(np.int32)], False, CURVE, 2, cv2.LINE_AA)
    return canvas


def _axis(canvas: Canvas, top_value: float, end_s: float) -> None:
    base = CHART_HEIGHT - BOTTOM
    for text, y in ((f"{top_value:.3g}", TOP + 6), ("0", base + 4)):
        cv2.putText(canvas, text, (40, y), FONT, 0.45, MUTED, 1, cv2.LINE_AA)
    end = f"{end_s:.0f} s"
    cv2.putText(canvas, end, (WIDTH - RIGHT - 50, TOP - 8), FONT, 0.45, MUTED, 1, cv2.LINE_AA)
