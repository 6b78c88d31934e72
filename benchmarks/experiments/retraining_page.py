"""The page of `retraining`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def page(told: Mapping[str, Any]) -> str:
    return "# Retraining\n"
