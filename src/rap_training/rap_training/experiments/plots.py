"""The plot of an experiment: every training as a dot, the interval of each arm as a bar; SVG."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape

from rap_training.experiments.comparison import ArmResults
from rap_training.experiments.figures import FIGURES, FigureName
from rap_training.experiments.intervals import Estimate

_STYLE = (
    "text{font:12px sans-serif;fill:#333}.title{font-weight:bold}.end{text-anchor:end}"
    "line{stroke:#1a4fa3;stroke-width:3}.axis{stroke:#bbb;stroke-width:1}circle{fill:#d4621a}"
)
_ROW_PX, _TOP_PX, _BOTTOM_PX = 24, 28, 24
_LABEL_PX, _PLOT_PX, _RIGHT_PX = 150, 320, 20
_MARGIN = 0.08  # Of the range of values, to both sides.


def plot(arms: Collection[ArmResults], figures: Sequence[FigureName]) -> str:
    """Draws a panel for each figure that was measured, one below the other; arms are its rows."""
    panels = []
    for name in figures:
        estimates = {arm.name: arm.estimate(name) for arm in arms}
        if any(estimates.values()):
            panels.append(_panel(FIGURES[name].label, FIGURES[name].decimals, estimates))
    width, height = _LABEL_PX + _PLOT_PX + _RIGHT_PX, _TOP_PX + _ROW_PX * len(arms) + _BOTTOM_PX
    shifted = "".join(
        f'<g transform="translate(0 {k * height})">{panel}</g>' for k, panel in enumerate(panels)
    )
    size = f'width="{width}" height="{height * len(panels)}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style>'
        f'<rect {size} fill="#fff"/>{shifted}</svg>\n'
    )


def _panel(title: str, decimals: int, estimates: dict[str, Estimate | None]) -> str:
    low, high = _range(found for found in estimates.values() if found)
    foot = _TOP_PX + _ROW_PX * len(estimates)

    def x(value: float) -> float:
        return _LABEL_PX + _PLOT_PX * (value - low) / (high - low)

    shapes = [
        _text(_LABEL_PX, 18, title, "title"),
        _line(_LABEL_PX, foot, _LABEL_PX + _PLOT_PX, foot, "axis"),
        _text(_LABEL_PX, foot + 16, f"{low:.{decimals}f}"),
        _text(_LABEL_PX + _PLOT_PX, foot + 16, f"{high:.{decimals}f}", "end"),
    ]
    for row, (name, found) in enumerate(estimates.items()):
        y = _TOP_PX + _ROW_PX * (row + 0.5)
        shapes.append(_text(_LABEL_PX - 10, y + 4, name, "end"))
        if found is None:
            shapes.append(_text(_LABEL_PX + 4, y + 4, "missing"))
            continue
        if found.interval:
            shapes.append(_line(x(found.interval[0]), y, x(found.interval[1]), y))
        shapes += [f'<circle cx="{x(value):.1f}" cy="{y}" r="4"/>' for value in found.values]
    return "".join(shapes)


def _range(estimates: Iterable[Estimate]) -> tuple[float, float]:
    """Returns what is in the picture: all values and intervals, with a margin."""
    values = [value for found in estimates for value in (*found.values, *(found.interval or ()))]
    margin = _MARGIN * (max(values) - min(values)) or 1.0
    return min(values) - margin, max(values) + margin


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(text)}</text>'


def _line(x0: float, y0: float, x1: float, y1: float, kind: str = "") -> str:
    return f'<line class="{kind}" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>'
