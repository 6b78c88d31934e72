"""The parts of a text that reports several studies: "CT CHEST: … XR CHEST: …", each under a title of its own.

A title is a line, or what stands before its colon, that has words of a modality and otherwise only words of titles
(``[studies]`` of ``headings.toml``). A text that names one modality only has one part, whatever its titles.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace

from radir_pacs.reports.sections import Headings, Section, split_sections
from radir_pacs.types import ImageKind

_LONGEST = 90  # characters of a title
_LINE = re.compile(r"[^\n]+")
_LEAD = re.compile(r"[ \t]*(?:[*#=_>•-]+[ \t]*)?(?:\(?\d{1,2}[.)][ \t]+)?")
_X_RAY = re.compile(r"\bx[ -]rays?\b", re.IGNORECASE)
_RAYS = frozenset({"ray", "rays"})
_WORD = re.compile(r"[^\W\d_]+")
_LABEL = re.compile(
    r"(?:exam(?:ination)?s?|stud(?:y|ies)|procedures?|untersuchung(?:en)?)(?: ?\d)?\s*:\s*", re.IGNORECASE
)
_ENDED = re.compile(r"[.:;!?]\s*$|^\s*$|^[^a-zäöü]+$")  # a line after which none goes on
_IMPRESSION, _COMPARISON = "impression", "comparison"


class Titles:
    """The words of titles in one language; ``kinds``: of each modality's words, None for one that is not encoded."""

    def __init__(self, table: Mapping[str, Iterable[str]]) -> None:
        self.kinds: dict[str, ImageKind | None] = {word.lower(): None for word in table.get("other", ())}
        for kind in ImageKind:
            self.kinds |= {word.lower(): kind for word in table.get(kind, ())}
        self._others = frozenset(word.lower() for word in table.get("title", ()))
        self._named = frozenset(self.kinds)

    def names_several(self, words: Set[str]) -> bool:
        """Whether words of two modalities are among these at all, which is quicker to see than titles."""
        named = self._named & words
        if "x" in words and not words.isdisjoint(_RAYS):
            named |= {"xray"}
        return len(named) > 1 and len({self.kinds[word] for word in named}) > 1

    def kinds_of(self, label: str) -> frozenset[ImageKind | None] | None:
        """What studies a label names; None where it is no title. "PET/CT" is a PET."""
        words = [word.lower() for word in _WORD.findall(_X_RAY.sub("xray", label))]
        named = [self.kinds[word] for word in words if word in self.kinds]
        if not named or any(word not in self.kinds and word not in self._others for word in words):
            return None
        return frozenset({None}) if None in named and "/" in label else frozenset(named)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPart:
    """``kinds``: of the studies that it is about; None: of all, as what stands before the first title.

    ``title``: where its title begins; its own text begins at ``start``.
    """

    title: int
    start: int
    end: int
    kinds: frozenset[ImageKind | None] | None
    titled: tuple[frozenset[ImageKind | None], ...] = ()  # what each of its titles names


def parts_of(text: str, titles: Titles, headings: Headings, words: Set[str]) -> tuple[TextPart, ...]:
    """The parts of a text in order; one for a text about one modality."""
    parts = titled_parts(text, titles, headings) if titles.names_several(words) else ()
    if len({kinds for part in parts for kinds in part.titled}) < 2:
        return (TextPart(title=0, start=0, end=len(text), kinds=None),)
    return parts


def titled_parts(text: str, titles: Titles, headings: Headings) -> tuple[TextPart, ...]:
    """The parts of a text by its titles, also where all name one modality; none without a title."""
    found = list(_titled(text, titles, headings))
    if not found:
        return ()
    parts = [TextPart(title=0, start=0, end=found[0][0], kinds=None)]
    for (title, start, kinds), (following, _, _) in zip(found, [*found[1:], (len(text), 0, frozenset())], strict=True):
        titled: tuple[frozenset[ImageKind | None], ...] = (kinds,)
        if parts[-1].kinds is not None and not text[parts[-1].start : parts[-1].end].strip(" \n\t:=-*"):
            kinds |= parts[-1].kinds  # two titles above one text
            titled = (*parts[-1].titled, *titled)
            title = parts.pop().title
        parts.append(TextPart(title=title, start=start, end=following, kinds=kinds, titled=titled))
    return (*parts[:-1], *_without_common_impression(text, parts, headings))


def sections_for(
    text: str, kind: ImageKind | None, titles: Titles, headings: Headings, words: Set[str]
) -> tuple[Section, ...]:
    """The sections that are about a study of this kind; of every study where the kind is not known.

    words: those of the text, as language.py tells them apart.
    """
    parts = parts_of(text, titles, headings, words) if kind is not None else ()
    if len(parts) < 2:
        return split_sections(text, headings)
    return tuple(
        replace(section, start=section.start + part.start, end=section.end + part.start)
        for part in parts
        if part.kinds is None or kind in part.kinds
        for section in split_sections(text[part.start : part.end], headings)
    )


def _titled(text: str, titles: Titles, headings: Headings) -> Iterator[tuple[int, int, frozenset[ImageKind | None]]]:
    """(where the title begins, where it ends, what it names); not those in a list of earlier studies."""
    earlier = [section for section in split_sections(text, headings) if section.name == _COMPARISON]
    ended = True
    for line in _LINE.finditer(text):
        lead = _LEAD.match(line[0])
        begin = lead.end() if lead else 0
        label = _LABEL.match(line[0], begin)
        begin = label.end() if label else begin
        colon = line[0].find(":", begin)
        while colon > 0 and line[0][colon - 1].isdigit() and line[0][colon + 1 : colon + 2].isdigit():
            colon = line[0].find(":", colon + 1)  # of a time
        title = line[0][begin : colon if colon >= 0 else len(line[0])]
        opens = ended or "\n\n" in text[max(0, line.start() - 2) : line.start()]
        kinds = None
        if opens and len(title) <= _LONGEST and title[:1].isupper() and not (colon < 0 and title.rstrip()[-1:] in ".,"):
            kinds = titles.kinds_of(title)
        ended = kinds is not None or _ENDED.search(line[0]) is not None
        if kinds is None:
            continue
        section = next((at for at in earlier if at.start <= line.start() < at.end), None)
        if section is not None and not text[section.start : line.start()].rstrip(" \t").endswith("\n\n"):
            continue
        yield line.start(), line.start() + (colon + 1 if colon >= 0 else len(line[0])), kinds


def _without_common_impression(text: str, parts: list[TextPart], headings: Headings) -> Iterator[TextPart]:
    """The last part; an impression at its end belongs to all studies where none of the others has one."""
    last = parts[-1]
    sections = split_sections(text[last.start : last.end], headings)
    at = next((n for n, section in enumerate(sections) if section.name == _IMPRESSION), None)
    others = (split_sections(text[part.start : part.end], headings) for part in parts[:-1])
    if not at or any(section.name == _IMPRESSION for found in others for section in found):
        yield last
        return
    cut = last.start + sections[at - 1].end
    yield replace(last, end=cut)
    yield TextPart(title=cut, start=cut, end=last.end, kinds=None)
