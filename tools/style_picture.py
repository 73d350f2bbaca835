"""Draws docs/images/styles.png: the example scene in every style, and what each colour means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from rap_raster.geometry import build_geometry
from rap_raster.rasterizer import render
from rap_raster.scene_json import load_scene
from rap_raster.styles import load_style, style_names

ROOT = Path(__file__).resolve().parents[1]
SCENE = ROOT / "docs/examples/scene.json"
STYLES = ROOT / "src/rap_raster/rap_raster/style_files"
OUT = ROOT / "docs/images/styles.png"

WIDTH, HEIGHT = 512, 256
TITLE_PX, ROW_PX, COLUMN_PX = 28, 21, 178
BACKGROUND, TEXT, FRAME = (30, 27, 26), (230, 230, 230), (110, 110, 110)

Canvas = npt.NDArray[np.uint8]


def main() -> None:
    """Draws and writes the picture."""
    OUT.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(OUT), np.concatenate([_style(name) for name in style_names()])):
        raise OSError(f"{OUT}: cannot be written")


def _style(name: str) -> Canvas:
    """Returns the front view in one style, with its legend at the right."""
    scene, cameras = load_scene(SCENE)
    front = cameras[0].resized(WIDTH, HEIGHT)
    image = render(build_geometry(scene, load_style(name)), front)["rgb"][..., ::-1]
    canvas = np.full((TITLE_PX + HEIGHT, WIDTH + 2 * COLUMN_PX, 3), BACKGROUND, np.uint8)
    canvas[TITLE_PX:, :WIDTH] = image
    _write(canvas, f"style {name}", (8, 19))
    content = yaml.safe_load((STYLES / f"{name}.yaml").read_text(encoding="utf-8"))
    rows = (HEIGHT + TITLE_PX) // ROW_PX
    for index, (text, color) in enumerate(_legend(content)):
        x, y = WIDTH + 10 + COLUMN_PX * (index // rows), 6 + ROW_PX * (index % rows)
        cv2.rectangle(canvas, (x, y), (x + 22, y + 13), color[::-1], cv2.FILLED)
        cv2.rectangle(canvas, (x, y), (x + 22, y + 13), FRAME, 1)
        _write(canvas, text, (x + 30, y + 11))
    return canvas


def _legend(content: dict[str, Any]) -> list[tuple[str, list[int]]]:
    """Returns what has a colour of its own, and the colour (r, g, b)."""
    boxes = content["boxes"]
    entries = [
        (layer["kind"], layer.get("fill") or layer["line"]["color"]) for layer in content["ground"]
    ]
    entries += boxes.get("classes", {}).items()
    entries += [(f"box: {face}", color) for face, color in boxes.get("faces", {}).items()]
    for name in ("brake_lights", "speed"):
        if name in boxes:
            entries.append((name, boxes[name]["color"] if name == "speed" else boxes[name]))
    entries += [(f"light: {state}", color) for state, color in content["lights"]["states"].items()]
    return [(name.replace("_", " "), color) for name, color in entries]


def _write(canvas: Canvas, text: str, place: tuple[int, int]) -> None:
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, TEXT, 1, cv2.LINE_AA)


if __name__ == "__main__":
    main()
