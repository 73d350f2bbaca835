"""The parameters of all nodes as Markdown, from the declarations themselves."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from rap_raster.ros.node import RapNode
from rap_raster.ros.parameters import AUTOSTART, Declared

PACKAGES = ("rap_perception", "rap_raster", "rap_planner")
"""Those whose nodes make up the graph."""

PIPE = "\\|"
"""A bar inside a cell."""

HEAD = "| parameter | type | default | allowed | what it is |\n|---|---|---|---|---|\n"


def package_tables(package: str) -> str:
    """Returns a heading and a table for every node of a package.

    Args:
        package: A package with nodes: modules `ros/*_node.py` with a subclass of `RapNode`.
    """
    folder = importlib.import_module(f"{package}.ros")
    names = [module.name for module in pkgutil.iter_modules(folder.__path__)]
    return "\n".join(_table(package, name) for name in sorted(names) if name.endswith("_node"))


def _table(package: str, name: str) -> str:
    module = importlib.import_module(f"{package}.ros.{name}")
    (node,) = (
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, RapNode) and kind.__module__ == module.__name__
    )
    rows = sorted((AUTOSTART, *node.PARAMETERS), key=lambda entry: entry.name)
    return f"### {name}\n\n{HEAD}{''.join(_row(entry) for entry in rows)}"


def _row(entry: Declared) -> str:
    default = entry.default
    if default in ("", [""]):
        shown = "not set"
    else:
        shown = f"`{str(default).lower() if isinstance(default, bool) else default}`"
    cells = (f"`{entry.name}`", _type(default), shown, _allowed(entry), entry.description)
    return f"| {' | '.join(cell.replace('|', PIPE) for cell in cells)} |\n"


def _type(default: object) -> str:
    """Returns the type's name in ROS 2 parameter files."""
    if isinstance(default, list):
        return f"{_type(default[0])}[]"
    return {bool: "bool", int: "integer", float: "double", str: "string"}[type(default)]


def _allowed(entry: Declared) -> str:
    if entry.choices:
        return ", ".join(f"`{choice}`" for choice in entry.choices)
    if entry.low is None or entry.high is None:
        return "any"
    return f"{entry.low:g} to {entry.high:g}"
