"""The figures by which arms are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rap_training.experiments.result import RunResult

FigureName = Literal[
    "epdms", "stage_one", "stage_two", "on_road", "no_collision", "off_path", "off_path_on_road",
    "min_ade", "driving_score", "completed", "faults",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a run.

    Attributes:
        label: Head of its column.
        value: Takes it from a result; None where it was not measured.
        lower_is_better: For errors.
        decimals: That are printed.
        closed_loop: Whether it is of the closed loop.
    """

    label: str
    value: Callable[[RunResult], float | None]
    lower_is_better: bool = False
    decimals: int = 3
    closed_loop: bool = False


def _driving_score(result: RunResult) -> float | None:
    return result.closed_loop.driving_score if result.closed_loop else None


def _completed(result: RunResult) -> float | None:
    return result.closed_loop.completed / result.closed_loop.routes if result.closed_loop else None


def _faults(result: RunResult) -> float | None:
    """Returns runs off the road and collisions at fault per driven kilometre.

    By route, whoever comes to stand early would do best.
    """
    driven = result.closed_loop
    if driven is None or driven.driven_km == 0.0:
        return None
    return (driven.off_road + driven.collisions_at_fault) / driven.driven_km


FIGURES: dict[FigureName, Figure] = {
    "epdms": Figure("EPDMS", lambda result: result.pseudo_sim.epdms),
    "stage_one": Figure("stage one", lambda result: result.pseudo_sim.stage_one["score"]),
    "stage_two": Figure("stage two", lambda result: result.pseudo_sim.stage_two["score"]),
    "on_road": Figure(
        "stage two on the road",
        lambda result: result.pseudo_sim.stage_two["drivable_area_compliance"],
    ),
    "no_collision": Figure(
        "stage two without collision",
        lambda result: result.pseudo_sim.stage_two["no_at_fault_collisions"],
    ),
    "off_path": Figure("off the path", lambda result: result.pseudo_sim.off_path.get("score")),
    "off_path_on_road": Figure(
        "off the path, on the road",
        lambda result: result.pseudo_sim.off_path.get("drivable_area_compliance"),
    ),
    "min_ade": Figure(
        "minADE 3 s (m)", lambda result: result.open_loop.min_ade_3s_m, lower_is_better=True
    ),
    "driving_score": Figure("driving score", _driving_score, decimals=1, closed_loop=True),
    "completed": Figure("routes completed", _completed, decimals=2, closed_loop=True),
    "faults": Figure("faults per km", _faults, lower_is_better=True, decimals=2, closed_loop=True),
}
