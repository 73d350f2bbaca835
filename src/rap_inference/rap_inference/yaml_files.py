"""YAML files into validated models: the one way manifests, styles and configurations are read.

Content that was parsed elsewhere, such as JSON, is validated by the same function.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


def read_yaml(path: Path, model: type[Model], error_type: type[ValueError]) -> Model:
    """Reads a YAML mapping and validates it.

    Args:
        path: The file.
        model: What it must be.
        error_type: What to raise.

    Raises:
        ValueError: An `error_type` that names file, field and reason in one line.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise error_type(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    return validated(path, content, model, error_type)


def validated(
    path: Path, content: object, model: type[Model], error_type: type[ValueError]
) -> Model:
    """Validates the parsed content of a file; it must be a mapping.

    Args:
        path: The file it came from, for the error.
        content: What a parser made of it.
        model: What it must be.
        error_type: What to raise.

    Raises:
        ValueError: An `error_type` that names file, field and reason in one line.
    """
    if not isinstance(content, dict):
        raise error_type(f"{path}: expected a mapping, got {type(content).__name__}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "content"
        raise error_type(f"{path}: {where}: {first['msg']}") from error
