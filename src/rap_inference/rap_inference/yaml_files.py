"""YAML files into validated models: the one way manifests, styles and configurations are read."""

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
    if not isinstance(content, dict):
        raise error_type(f"{path}: expected a mapping, got {type(content).__name__}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "content"
        raise error_type(f"{path}: {where}: {first['msg']}") from error
