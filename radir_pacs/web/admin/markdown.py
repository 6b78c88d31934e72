"""A model card as parts for a template: the few marks that `radir_pacs.encode.card` writes, and no others."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class CardPart:
    """A heading of the second or third level, with its paragraphs, list items and table rows (the first: headings)."""

    heading: str
    level: int
    paragraphs: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


def card_parts(card: str) -> list[CardPart]:
    """The parts below the title; what stands above the first heading is left out."""
    parts: list[CardPart] = []
    for line in card.splitlines():
        marks, _, rest = line.partition(" ")
        if marks in ("##", "###"):
            parts.append(CardPart(heading=_plain(rest), level=len(marks)))
        elif not parts or not line.strip():
            continue
        elif line.startswith("|"):
            cells = [_plain(cell.strip()) for cell in line.strip().strip("|").split("|")]
            if not all(cell and set(cell) <= set("-:") for cell in cells):
                parts[-1].rows.append(cells)
        elif marks == "-":
            parts[-1].items.append(_plain(rest))
        else:
            parts[-1].paragraphs.append(_plain(line))
    return parts


def _plain(text: str) -> str:
    return text.replace("**", "").replace("`", "")
