"""Result pages by Jinja2: self-contained documents without scripts, with all values escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def rendered(template: str, **values: Any) -> str:
    """The page that ``templates/<template>`` makes of the values."""
    return _ENVIRONMENT.get_template(template).render(**values) + "\n"
