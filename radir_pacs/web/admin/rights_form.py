"""The fields of a form that say what a new account or token may see."""

from __future__ import annotations

from datetime import date

from flask import request

from radir_pacs.access.rights import rights
from radir_pacs.catalogue import Rights
from radir_pacs.errors import BadInput

from . import view

_MOST = 4000  # characters of a list


def of_form() -> Rights:
    """Lists are written with commas. Raises BadInput."""
    return rights(
        view.field("role"),
        sites=_list("sites"),
        departments=_list("departments"),
        modalities=_list("modalities"),
        since=_day("since"),
        until=_day("until"),
        names="names" in request.form,
    )


def _list(name: str) -> list[str]:
    return [part.strip() for part in view.field(name, _MOST).split(",") if part.strip()]


def _day(name: str) -> date | None:
    text = view.field(name, 20)
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise BadInput("a day is written as 2024-12-31") from None
