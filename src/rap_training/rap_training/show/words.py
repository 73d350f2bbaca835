"""Samples in words: what was changed, and where and when it was."""

from __future__ import annotations

import numpy as np

from rap_planner.route import Command
from rap_raster.scene import ObjectClass
from rap_training.augmentation.situation import Situation

UNITS = {
    "_radps": (np.rad2deg(1.0), "{:+.1f} deg/s"),
    "_rad": (np.rad2deg(1.0), "{:+.1f} deg"),
    "_mps2": (1.0, "{:+.1f} m/s2"),
    "_mps": (1.0, "{:+.1f} m/s"),
    "_1pm": (1.0, "{:+.3f} 1/m"),
    "_ratio": (100.0, "{:+.0f} %"),
    "_m": (1.0, "{:.1f} m"),
    "_s": (1.0, "{:.1f} s"),
}
"""Suffix of a figure's name: factor and form for people."""

SIDES = {"lateral_m": ("left", "right"), "longitudinal_m": ("ahead", "back")}
"""Figures whose sign is a direction."""


def change_in_words(situation: Situation) -> str:
    """Returns what was changed, such as `0.60 m left, yaw +4.0 deg, speed +10 %`."""
    log, seat = situation.moment.log, situation.moment.seat
    recorders = " and ".join(str(ego) for ego in log.egos)
    seen = "" if seat in log.egos else f"from the seat of {seat}, recorded by {recorders}"
    parts = [seen] if seen else []
    parts += [figure_in_words(name, value) for name, value in situation.details.items() if value]
    return ", ".join(parts) or "as recorded"


def place_in_words(situation: Situation) -> str:
    """Returns whose seat, which log and when."""
    moment, vehicle = situation.moment, situation.vehicle
    kind = ObjectClass(moment.log.object_class(moment.seat)).name.lower()
    return (
        f"{moment.log.name}   {moment.step * moment.log.dt_s:.1f} s   "
        f"{kind} {moment.seat} ({vehicle.length_m:.1f} x {vehicle.width_m:.1f} m)   "
        f"{situation.ego.vx_mps:.1f} m/s   command {Command(situation.command).name.lower()}"
    )


def figure_in_words(name: str, value: float | str) -> str:
    """Returns one of a situation's details, with its unit or its side."""
    if isinstance(value, str):
        return f"{name}: {value}".replace("_", " ")
    if name in SIDES:
        return f"{abs(value):.2f} m {SIDES[name][value < 0]}"
    for suffix, (factor, form) in UNITS.items():
        if name.endswith(suffix):
            plain = name.removesuffix(suffix).replace("_", " ")
            return f"{plain} {form.format(factor * value)}"
    return f"{name.replace('_', ' ')} {value:g}"
