"""What administrators see of the configuration: the settings without what may be secret, and the policy as it is."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from extproc.config import Config


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings and policy as text; `digest` is the SHA-256 of the policy, as records have it."""

    version: str
    settings: str
    policy: str
    digest: str


def configuration_of(config: Config) -> Configuration:
    """Return what may be shown of loaded settings."""
    path: Path = config.base / config.settings.policy
    return Configuration(
        version=importlib.metadata.version("copilot-extproc"),
        settings=yaml.safe_dump(_shown(config.settings), sort_keys=False, allow_unicode=True, width=100),
        policy=path.read_text("utf-8", "replace"),
        digest=config.policy.digest,
    )


def _shown(value: Any) -> Any:  # noqa: ANN401 - settings of any shape
    """Return settings as plain values; fields that hide themselves from `repr` may hold a secret."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {
            name: _shown(getattr(value, name)) if fields[name].repr else "(hidden)"
            for name in fields
            if getattr(value, name) is not None
        }
    if isinstance(value, dict):
        return {str(name): _shown(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_shown(one) for one in value]
    return value if isinstance(value, int | float | bool) or value is None else str(value)
