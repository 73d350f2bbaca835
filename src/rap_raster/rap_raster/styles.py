"""Raster styles: what is drawn and how it looks. Styles are data; this reads and checks them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rap_inference.yaml_files import read_yaml
from rap_raster.kernels import FADE_NONE, FADE_PIXEL, FADE_PRIMITIVE
from rap_raster.scene import LightState, LineKind, ObjectClass, PolygonKind

FACES = ("front", "rear", "left", "right", "top", "bottom")
"""Names of the faces of a box, in the order of the kernels."""

_FOLDER = Path(__file__).parent / "style_files"
_FADES = {"none": FADE_NONE, "primitive": FADE_PRIMITIVE, "pixel": FADE_PIXEL}

_Level = Annotated[int, Field(ge=0, le=255)]
_Color = tuple[_Level, _Level, _Level]
_Shade = Annotated[float, Field(ge=0, le=1)]
_Fade = Literal["none", "primitive", "pixel"]
_Width = Annotated[float, Field(gt=0, le=10)]
_Pixels = Annotated[float, Field(ge=0, le=64)]


class StyleError(ValueError):
    """A style that cannot be used; the text names file, field and reason in one line."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Line(_Strict):
    color: _Color
    width_m: _Width
    min_px: _Pixels = 0.0
    fade: _Fade


class _GroundFile(_Strict):
    kind: str
    line: _Line | None = None
    fill: _Color | None = None
    fade: _Fade = "pixel"

    @model_validator(mode="after")
    def _has_parts(self) -> _GroundFile:
        names = {kind.name.lower() for kind in (*LineKind, *PolygonKind)}
        if self.kind not in names:
            raise ValueError(f"unknown kind {self.kind!r}, expected one of {sorted(names)}")
        if self.fill is None and self.line is None:
            raise ValueError(f"{self.kind} needs a line or a fill")
        if self.fill is not None and self.kind.upper() in LineKind.__members__:
            raise ValueError(f"{self.kind} is a line and cannot be filled")
        return self


class _BoxesFile(_Strict):
    fade: _Fade
    faces: dict[str, _Color] | None = None
    classes: dict[str, _Color] | None = None
    shades: dict[str, _Shade] | None = None

    @model_validator(mode="after")
    def _complete(self) -> _BoxesFile:
        by_class = self.classes is not None and self.shades is not None
        if (self.faces is not None) == by_class:
            raise ValueError("boxes need either faces, or classes and shades")
        _require_names("faces", self.faces, FACES)
        _require_names("shades", self.shades, FACES)
        _require_names("classes", self.classes, [c.name.lower() for c in ObjectClass])
        return self


class _LightsFile(_Strict):
    fade: _Fade
    states: dict[str, _Color]

    @field_validator("states")
    @classmethod
    def _complete(cls, states: dict[str, _Color]) -> dict[str, _Color]:
        _require_names("states", states, [s.name.lower() for s in LightState])
        return states


class _StyleFile(_Strict):
    name: str
    ground: tuple[_GroundFile, ...]
    boxes: _BoxesFile
    lights: _LightsFile

    @field_validator("ground")
    @classmethod
    def _unique(cls, ground: tuple[_GroundFile, ...]) -> tuple[_GroundFile, ...]:
        kinds = [layer.kind for layer in ground]
        if len(set(kinds)) != len(kinds):
            raise ValueError(f"each kind may appear once, got {kinds}")
        return ground


def _require_names(
    field: str,
    given: dict[str, _Color] | dict[str, float] | None,
    names: tuple[str, ...] | list[str],
) -> None:
    if given is not None and set(given) != set(names):
        raise ValueError(f"{field} needs exactly {list(names)}, got {list(given)}")


@dataclass(frozen=True, slots=True)
class GroundLayer:
    """One thing to draw on the ground.

    Attributes:
        code: Class code of the shapes it draws, a `LineKind` or `PolygonKind`.
        filled: True for the area of polygons, False for lines and outlines.
        color: (3,) uint8 RGB.
        width_m: Width of lines in metres.
        min_px: Minimum width of lines in pixels.
        fade: Depth cue, one of the `FADE_` constants of the kernels.
    """

    code: int
    filled: bool
    color: npt.NDArray[np.uint8]
    width_m: float
    min_px: float
    fade: int


@dataclass(frozen=True, slots=True)
class Style:
    """A raster style, ready for the geometry builder.

    Attributes:
        name: As in the model bundle.
        ground: Layers from bottom to top.
        box_colors: (256, 6, 3) uint8 by class code and face (see `FACES`).
        box_fade: Depth cue of boxes.
        light_colors: (256, 3) uint8 by state code.
        light_fade: Depth cue of lights.
    """

    name: str
    ground: tuple[GroundLayer, ...]
    box_colors: npt.NDArray[np.uint8]
    box_fade: int
    light_colors: npt.NDArray[np.uint8]
    light_fade: int


def style_names() -> list[str]:
    """Returns the names of the styles that come with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


@cache
def load_style(name: str) -> Style:
    """Loads one of the styles that come with the package.

    Raises:
        StyleError: If there is no such style.
    """
    if name not in style_names():
        raise StyleError(f"style: unknown name {name!r}, expected one of {style_names()}")
    return read_style(_FOLDER / f"{name}.yaml")


def read_style(path: Path) -> Style:
    """Reads and validates a style file.

    Raises:
        StyleError: If the file cannot be read or a field is wrong.
    """
    style = read_yaml(path, _StyleFile, StyleError)
    return Style(
        name=style.name,
        ground=tuple(layer for entry in style.ground for layer in _ground_layers(entry)),
        box_colors=_box_colors(style.boxes),
        box_fade=_FADES[style.boxes.fade],
        light_colors=_light_colors(style.lights),
        light_fade=_FADES[style.lights.fade],
    )


def _ground_layers(entry: _GroundFile) -> list[GroundLayer]:
    name = entry.kind.upper()
    code = LineKind[name] if name in LineKind.__members__ else PolygonKind[name]
    layers = []
    if entry.fill is not None:
        fill = np.array(entry.fill, np.uint8)
        layers.append(GroundLayer(int(code), True, fill, 0.0, 0.0, _FADES[entry.fade]))
    if entry.line is not None:
        line = entry.line
        color = np.array(line.color, np.uint8)
        fade = _FADES[line.fade]
        layers.append(GroundLayer(int(code), False, color, line.width_m, line.min_px, fade))
    return layers


def _box_colors(boxes: _BoxesFile) -> npt.NDArray[np.uint8]:
    colors = np.zeros((256, len(FACES), 3), np.uint8)
    for code in ObjectClass:
        for index, face in enumerate(FACES):
            if boxes.faces is not None:
                colors[code, index] = boxes.faces[face]
            elif boxes.classes is not None and boxes.shades is not None:
                color = np.array(boxes.classes[code.name.lower()], np.float64)
                colors[code, index] = np.rint(color * boxes.shades[face])
    return colors


def _light_colors(lights: _LightsFile) -> npt.NDArray[np.uint8]:
    colors = np.zeros((256, 3), np.uint8)
    for state in LightState:
        colors[state] = lights.states[state.name.lower()]
    return colors
