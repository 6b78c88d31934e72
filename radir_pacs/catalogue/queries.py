"""Reads queries.sql: ``-- name: <query>``, a comment that says its purpose, one statement that ends in a semicolon."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files

_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)$", re.MULTILINE)


def parse(text: str) -> dict[str, bytes]:
    """Queries by name. Raises ValueError for one that is named twice, lacks its comment or is not one statement.

    The values are bytes: psycopg's types accept text only as a literal, so that nobody builds SQL from input.
    """
    parts = _NAME.split(text)
    queries: dict[str, bytes] = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        lines = body.strip().splitlines()
        statement = "\n".join(line for line in lines if not line.startswith("--")).strip()
        if name in queries:
            raise ValueError(f"the query {name} is named twice")
        if not lines or not lines[0].startswith("-- "):
            raise ValueError(f"the query {name} has no comment")
        if not statement.endswith(";") or ";" in statement[:-1]:
            raise ValueError(f"the query {name} is not one statement ended by a semicolon")
        queries[name] = statement[:-1].encode()
    return queries


QUERIES: Mapping[str, bytes] = parse(files("radir_pacs.catalogue").joinpath("queries.sql").read_text("utf-8"))
