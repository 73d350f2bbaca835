"""Road map files in XML: reading them safely, and attributes with errors that name their place.

Document type declarations are refused, because entities could expand to anything.
"""

from __future__ import annotations

import gzip
import math
import re
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path

_ENCODING = re.compile(rb"""\s*<\?xml[^>]*?\sencoding=["']([A-Za-z0-9._-]+)["']""")

MAX_BYTES = 1 << 30
"""Largest file that is read, uncompressed: five times the largest known town (Town13)."""


class MapError(ValueError):
    """A map file that cannot be used; the message names the file and the element."""


def read_xml(path: Path, root_tag: str) -> ET.Element:
    """Reads an XML file, unpacked first if its name ends in .gz.

    Args:
        path: The file.
        root_tag: What its root element must be.

    Raises:
        MapError: If the file cannot be read, is too large, no XML, or has another root.
    """
    root = _parse_xml(_read_bytes(path), path)
    if root.tag != root_tag:
        raise MapError(f"{path}: expected the root element {root_tag}, got {_shown(root.tag)}")
    return root


def _shown(text: str | None) -> str:
    """Returns text from a file as it fits into one line of an error."""
    return "nothing" if text is None else ascii(text)[1:-1][:80]


def _read_bytes(path: Path) -> bytes:
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as stream:
                data = stream.read(MAX_BYTES + 1)
        else:
            with path.open("rb") as stream:
                data = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise MapError(f"{path}: cannot be read: {error}") from error
    if len(data) > MAX_BYTES:
        raise MapError(f"{path}: larger than {MAX_BYTES} bytes")
    return data


def _parse_xml(data: bytes, path: Path) -> ET.Element:
    declared = _ENCODING.match(data)
    encoding = declared[1].decode() if declared else "utf-8"
    try:
        text = data.decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        raise MapError(f"{path}: not {_shown(encoding)} text: {error}") from error
    if "<!DOCTYPE" in text:
        raise MapError(f"{path}: document type declarations are not accepted")
    try:
        return _without_namespaces(ET.fromstring(text))
    except (ET.ParseError, LookupError, ValueError) as error:  # The latter two: odd encodings.
        raise MapError(f"{path}: malformed XML: {error}") from error


def _without_namespaces(root: ET.Element) -> ET.Element:
    """Some writers put a namespace on OpenDRIVE, which has none."""
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def text_of(element: ET.Element, name: str, where: str) -> str:
    """Returns an attribute.

    Raises:
        MapError: If it is missing; the message begins with `where`.
    """
    value = element.get(name)
    if value is None:
        raise MapError(f"{where}: {element.tag} has no attribute '{name}'")
    return value


def number_of(element: ET.Element, name: str, where: str, default: float | None = None) -> float:
    """Returns a finite number; `default`, if there is one, where the attribute is missing.

    Raises:
        MapError: If it is missing or no finite number; the message begins with `where`.
    """
    if default is not None and element.get(name) is None:
        return default
    return finite_number(text_of(element, name, where), f"{where}: {element.tag} {name}")


def finite_number(text: str, where: str) -> float:
    """Returns text as a finite number.

    Raises:
        MapError: If it is none; the message begins with `where`.
    """
    try:
        value = float(text)
    except ValueError as error:
        raise MapError(f"{where}: expected a number, got '{_shown(text)}'") from error
    if not math.isfinite(value):
        raise MapError(f"{where}: expected a finite number, got '{_shown(text)}'")
    return value


def integer_of(element: ET.Element, name: str, where: str) -> int:
    """Returns an integer.

    Raises:
        MapError: If it is missing or no integer; the message begins with `where`.
    """
    text = text_of(element, name, where)
    try:
        return int(text)
    except ValueError as error:
        message = f"{where}: {element.tag} {name}: expected an integer, got '{_shown(text)}'"
        raise MapError(message) from error
