"""`--output`, the same for all commands."""

from __future__ import annotations

from enum import StrEnum


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"
