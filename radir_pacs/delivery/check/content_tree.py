"""Reading the content tree of a structured report (PS3.3 C.17.3) without trusting it."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pydicom.dataset import Dataset

from radir_pacs.delivery import codes
from radir_pacs.types import Code


def content(item: Dataset) -> list[Dataset]:
    return list(item.get("ContentSequence") or ())


def children(item: Dataset, name: Code) -> list[Dataset]:
    return [child for child in content(item) if code(child, "ConceptNameCodeSequence") == pair(name)]


def descendants(item: Dataset) -> Iterator[Dataset]:
    for child in content(item):
        yield child
        yield from descendants(child)


def datasets(ds: Dataset) -> Iterator[Dataset]:
    yield ds
    for element in ds:
        if element.VR == "SQ":
            for item in element.value or ():
                yield from datasets(item)


def values(ds: Dataset) -> Iterator[object]:
    for element in ds:
        if element.VR != "SQ" and element.value is not None:
            yield element.value


def pair(code: Code) -> tuple[str, str]:
    return code.value, code.scheme


def code(item: Dataset, keyword: str) -> tuple[str, str]:
    sequence = item.get(keyword) or ()
    if not sequence:
        return "", ""
    return code_value(sequence[0]), str(sequence[0].get("CodingSchemeDesignator", ""))


def code_value(item: Dataset) -> str:
    """The code value of a code sequence item, in whichever attribute its length requires (PS3.3 8.8)."""
    return str(item.get("CodeValue") or item.get("LongCodeValue") or "")


def meaning(item: Dataset, keyword: str) -> str:
    sequence = item.get(keyword) or ()
    return str(sequence[0].get("CodeMeaning", "")) if sequence else ""


def template(item: Dataset) -> str:
    sequence = item.get("ContentTemplateSequence") or ()
    return str(sequence[0].get("TemplateIdentifier", "")) if sequence else ""


def uid(item: Dataset) -> str:
    return str(item.get("UID") or "")


def number(group: Dataset, name: Code) -> float | None:
    for item in children(group, name):
        for measured in item.get("MeasuredValueSequence") or ():
            if measured.get("NumericValue") is not None:
                return float(measured.NumericValue)
    return None


def image_uid(item: Dataset) -> str:
    sequence = item.get("ReferencedSOPSequence") or ()
    return str(sequence[0].get("ReferencedSOPInstanceUID", "")) if sequence else ""


def library_images(ds: Dataset) -> list[str]:
    return [
        image_uid(item)
        for library in children(ds, codes.IMAGE_LIBRARY)
        for group in children(library, codes.IMAGE_LIBRARY_GROUP)
        for item in content(group)
        if item.get("ValueType") == "IMAGE"
    ]


def evidence(ds: Dataset, keyword: str) -> dict[str, str]:
    """SOP Instance UID to Study Instance UID."""
    return dict(references(ds.get(keyword) or ()))


def references(studies: Collection[Dataset]) -> Iterator[tuple[str, str]]:
    for study in studies:
        for series in study.get("ReferencedSeriesSequence") or ():
            for instance in series.get("ReferencedSOPSequence") or ():
                yield str(instance.get("ReferencedSOPInstanceUID", "")), str(study.get("StudyInstanceUID", ""))
