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
from rap_raster.scene import BRAKE_LIGHTS, LightState, LineKind, ObjectClass, PolygonKind

FACES = ("front", "rear", "left", "right", "top", "bottom")
"""Names of the faces of a box, in the order of the kernels."""

FADE_NONE, FADE_PRIMITIVE, FADE_PIXEL = 0, 1, 2
"""Depth cue: none; one factor per line segment, area or face from its mean corner depth; or one
factor per pixel."""

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


class _SpeedFile(_Strict):
    color: _Color
    share: _Shade
    full_mps: Annotated[float, Field(gt=0, le=100)]


class _BoxesFile(_Strict):
    fade: _Fade
    faces: dict[str, _Color] | None = None
    classes: dict[str, _Color] | None = None
    shades: dict[str, _Shade] | None = None
    brake_lights: _Color | None = None
    speed: _SpeedFile | None = None

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
    supersample: Literal[1, 2] = 1

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
class GroundLook:
    """How the L layers of the ground look, from bottom to top.

    Attributes:
        codes: (L,) uint8 class code of the shapes a layer draws, a `LineKind` or `PolygonKind`.
        of_areas: (L,) uint8, 1 where the shapes are polygons.
        filled: (L,) uint8, 1 for the area of polygons, 0 for lines and outlines.
        widths_m: (L,) float64 width of lines in metres.
        min_px: (L,) float64 minimum width of lines in pixels.
        colors: (L, 3) uint8 RGB before the depth cue.
        fades: (L,) uint8 depth cue, a `FADE_` constant.
    """

    codes: npt.NDArray[np.uint8]
    of_areas: npt.NDArray[np.uint8]
    filled: npt.NDArray[np.uint8]
    widths_m: npt.NDArray[np.float64]
    min_px: npt.NDArray[np.float64]
    colors: npt.NDArray[np.uint8]
    fades: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SpeedTint:
    """How the colour of a box tells its speed.

    Attributes:
        color: (3,) float64 RGB that is mixed in, before the depth cue.
        share: Of that colour at full speed, in proportion below; 0 where speeds are not shown.
        full_mps: Speed from which on all look the same.
    """

    color: npt.NDArray[np.float64]
    share: float
    full_mps: float


@dataclass(frozen=True, slots=True)
class Style:
    """A raster style, ready for the geometry builder.

    Attributes:
        name: As in the model bundle.
        ground: Layers of the ground.
        box_colors: (256, 6, 3) uint8 by class code and face (see `FACES`).
        braking_colors: (256, 6, 3) the same where brake lights are lit: another rear, if the style
            shows them.
        speed_tint: What is mixed into the colours of moving boxes.
        box_fade: Depth cue of boxes.
        light_colors: (256, 6, 3) uint8 by state code and face.
        light_fade: Depth cue of lights.
        supersample: 2 draws rgb at twice the size and averages 2 x 2 pixels, 1 does not.
    """

    name: str
    ground: GroundLook
    box_colors: npt.NDArray[np.uint8]
    braking_colors: npt.NDArray[np.uint8]
    speed_tint: SpeedTint
    box_fade: int
    light_colors: npt.NDArray[np.uint8]
    light_fade: int
    supersample: int

    @property
    def fades_per_pixel(self) -> bool:
        """True if some colour depends on the depth of its pixel."""
        return FADE_PIXEL in (self.box_fade, self.light_fade, *self.ground.fades)


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
        ground=_ground_look(style.ground),
        box_colors=_box_colors(style.boxes),
        braking_colors=_braking_colors(style.boxes),
        speed_tint=_speed_tint(style.boxes.speed),
        box_fade=_FADES[style.boxes.fade],
        light_colors=_light_colors(style.lights),
        light_fade=_FADES[style.lights.fade],
        supersample=style.supersample,
    )


def _ground_look(entries: tuple[_GroundFile, ...]) -> GroundLook:
    """Lists the layers; an area with an outline has two, the outline above its area."""
    rows: list[tuple[int, bool, bool, float, float, _Color, int]] = []
    for entry in entries:
        name = entry.kind.upper()
        of_area = name in PolygonKind.__members__
        code = int(PolygonKind[name] if of_area else LineKind[name])
        if entry.fill is not None:
            rows.append((code, of_area, True, 0.0, 0.0, entry.fill, _FADES[entry.fade]))
        if entry.line is not None:
            line = entry.line
            look = (line.width_m, line.min_px, line.color, _FADES[line.fade])
            rows.append((code, of_area, False, *look))
    columns = list(zip(*rows, strict=True)) or [()] * 7
    return GroundLook(
        codes=np.array(columns[0], np.uint8),
        of_areas=np.array(columns[1], np.uint8),
        filled=np.array(columns[2], np.uint8),
        widths_m=np.array(columns[3], np.float64),
        min_px=np.array(columns[4], np.float64),
        colors=np.array(columns[5], np.uint8).reshape(-1, 3),
        fades=np.array(columns[6], np.uint8),
    )


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


def _braking_colors(boxes: _BoxesFile) -> npt.NDArray[np.uint8]:
    colors = _box_colors(boxes)
    if boxes.brake_lights is not None:
        colors[list(BRAKE_LIGHTS), FACES.index("rear")] = boxes.brake_lights
    return colors


def _speed_tint(speed: _SpeedFile | None) -> SpeedTint:
    if speed is None:
        return SpeedTint(np.zeros(3), share=0.0, full_mps=1.0)
    return SpeedTint(np.array(speed.color, np.float64), speed.share, speed.full_mps)


def _light_colors(lights: _LightsFile) -> npt.NDArray[np.uint8]:
    colors = np.zeros((256, len(FACES), 3), np.uint8)
    for state in LightState:
        colors[state] = lights.states[state.name.lower()]
    return colors
