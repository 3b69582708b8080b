"""Configuration files: one TOML a process, every key typed, unknown keys refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pleura.common.errors import ConfigUnreadable, InvalidConfigValue, UnknownConfigKey

M = TypeVar("M", bound=BaseModel)


def load_toml(path: Path, model: type[M]) -> M:
    """Read a TOML file into a frozen model.

    Raises:
        ConfigUnreadable: the file is missing, not readable or not TOML.
        UnknownConfigKey: a key the model does not have; it is named.
        InvalidConfigValue: a value the model does not allow; its key is named.
    """
    return validate(read_toml(path), model)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises:
        ConfigUnreadable: the file is missing, not readable or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigUnreadable(f"{path}: {exc.strerror}") from exc
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigUnreadable(f"{path}: not valid TOML ({exc})") from exc


def validate(data: dict[str, Any], model: type[M]) -> M:
    """Return `data` as `model`.

    Raises:
        UnknownConfigKey: a key the model does not have; it is named.
        InvalidConfigValue: a value the model does not allow; its key is named.
    """
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        problem = exc.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(part) for part in problem["loc"]) or "(file)"
        if problem["type"] == "extra_forbidden":
            raise UnknownConfigKey(key) from exc
        raise InvalidConfigValue(f"{key}: {problem['msg']}") from exc
