"""The result of a check: what was looked at, how it is, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from radir_pacs.config import Settings


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"  # it works, and will not for ever, or not for everybody
    ERROR = "error"  # something that the settings ask for does not work


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """``code`` is stable, for programs; ``what`` and ``advice`` are for people and name no patient."""

    code: str
    level: Level
    what: str
    advice: str = ""


Check = Callable[[Settings], Iterable[CheckResult]]


def ok(code: str, what: str) -> CheckResult:
    return CheckResult(code=code, level=Level.OK, what=what)


def warning(code: str, what: str, advice: str) -> CheckResult:
    return CheckResult(code=code, level=Level.WARNING, what=what, advice=advice)


def error(code: str, what: str, advice: str) -> CheckResult:
    return CheckResult(code=code, level=Level.ERROR, what=what, advice=advice)
