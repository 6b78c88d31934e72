"""Which image represents a study: the radiograph or CT series to encode, or the reason that there is none."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from radir_pacs.dicom.body_parts import BodyPart, body_part_of
from radir_pacs.dicom.ct_series import CtRules, read_ct_series
from radir_pacs.dicom.grayscale import is_colour
from radir_pacs.dicom.json_model import numbers, text, value, values
from radir_pacs.dicom.pixels import PixelDecoder
from radir_pacs.dicom.radiograph import DX_FOR_PROCESSING, read_radiograph
from radir_pacs.dicom.rules import Rules, load_rules
from radir_pacs.dicom.slices import is_localizer
from radir_pacs.dicom.transfer_syntaxes import undecodable
from radir_pacs.dicom.views import view_of
from radir_pacs.errors import DicomRefused, Quarantined, RadirError, Skipped
from radir_pacs.image_notes import ImageNote, ImageNoteCode
from radir_pacs.reasons import WORTH_ANOTHER_DECODE, ReasonCode
from radir_pacs.types import RADIOGRAPH_MODALITIES, HeaderNote, ImageKind, InstanceHeader, View, Volume

_CT_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2",  # CT
    "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT
    "1.2.840.10008.5.1.4.1.1.2.2",  # Legacy Converted Enhanced CT
}
_UNKNOWN_PART = ImageNote(code=ImageNoteCode.BODY_PART_UNKNOWN)
_SMALLEST_PX = 64
_MOST_TRIES = 5  # candidates of one kind before giving up
_WHOLE_COVERAGE = 0.8  # a series of at least this share of the longest one covers the chest as well as that does
_SENSIBLE_THICKNESS_MM = (0.9, 2.5)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One radiograph, or one CT series, that may represent its study."""

    kind: ImageKind
    headers: tuple[InstanceHeader, ...]
    view: View | None = None
    warnings: tuple[ImageNote, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to encode of a study: per kind, candidates in order of preference; when one fails, the next is tried."""

    study_uid: str
    candidates: Mapping[ImageKind, tuple[Candidate, ...]]


def plan_study(headers: Iterable[InstanceHeader], rules: Rules | None = None) -> Plan:
    """The plan for one study's instances, by the site's rules or the built-in ones.

    Raises Skipped with every reason when nothing can be encoded.
    """
    rules = rules or load_rules()
    headers = sorted(headers, key=lambda h: (h.series_number or 0, h.series_uid, h.instance_number or 0, h.sop_uid))
    if not headers:
        raise Skipped("the study has no instances", reason_code=ReasonCode.NO_IMAGE)
    reasons: list[Skipped] = []
    ranked = {ImageKind.CXR: _radiographs(headers, rules, reasons), ImageKind.CT: _ct_series(headers, rules, reasons)}
    candidates = {kind: tuple(found) for kind, found in ranked.items() if found}
    if not candidates:
        raise _together(reasons) if reasons else _nothing_supported(headers)
    return Plan(study_uid=headers[0].study_uid, candidates=candidates)


def assemble(
    plan: Plan,
    paths: Mapping[str, Path],
    decoder: PixelDecoder,
    rules: CtRules | None = None,
    *,
    last_attempt: bool = True,
    lut_shape_senders: Collection[str] = (),
) -> list[Volume]:
    """One volume per kind, from its best candidate that can be read; ``paths`` by SOP Instance UID.

    lut_shape_senders: see `read_radiograph`. Unless it is the ``last_attempt``, DicomRefused is raised at once when the
    decoding child was killed, crashed or was too slow: another attempt is better than a lesser candidate. Raises
    Skipped when no candidate turns out to be a chest volume, Quarantined when one is but cannot be read.
    """
    volumes: list[Volume] = []
    failures: list[RadirError] = []
    for ranked in plan.candidates.values():
        for candidate in ranked[:_MOST_TRIES]:
            try:
                volume = _read(candidate, paths, decoder, rules or CtRules(), lut_shape_senders)
            except (DicomRefused, Quarantined, Skipped) as error:
                if error.reason_code in WORTH_ANOTHER_DECODE and not last_attempt:
                    raise
                failures.append(error)
                continue
            volumes.append(replace(volume, warnings=candidate.warnings + volume.warnings))
            break
    if volumes:
        return volumes
    for failure in failures:
        if not isinstance(failure, Skipped):
            raise Quarantined(str(failure), reason_code=failure.reason_code) from failure
    raise _together(failures)


def _together(reasons: Sequence[RadirError]) -> Skipped:
    """All reasons in one error, with the number of times that each occurs.

    Its code is that of the best candidate that is not merely of an unsupported kind, such as a localizer or a capture.
    """
    codes = [reason.reason_code for reason in reasons]
    telling = next((code for code in codes if code is not ReasonCode.UNSUPPORTED_IMAGE), codes[0])
    counted = Counter(map(str, reasons))
    words = (f"{reason} ({count})" if count > 1 else reason for reason, count in counted.items())
    return Skipped("; ".join(words), reason_code=telling)


def _read(
    candidate: Candidate,
    paths: Mapping[str, Path],
    decoder: PixelDecoder,
    rules: CtRules,
    lut_shape_senders: Collection[str],
) -> Volume:
    truncated = sum(HeaderNote.PIXELS_TRUNCATED in header.notes for header in candidate.headers)
    if truncated:
        raise DicomRefused(
            f"PixelData is truncated ({truncated} of {len(candidate.headers)} instances)",
            reason_code=ReasonCode.DECODE_FAILED,
        )
    if candidate.kind is ImageKind.CT:
        return read_ct_series(candidate.headers, paths, decoder, rules)
    header = candidate.headers[0]
    return read_radiograph(header, paths[header.sop_uid], decoder, lut_shape_senders=lut_shape_senders)


def _radiographs(headers: Sequence[InstanceHeader], rules: Rules, reasons: list[Skipped]) -> list[Candidate]:
    found: list[tuple[tuple[float, ...], Candidate]] = []
    for header in headers:
        if header.modality not in RADIOGRAPH_MODALITIES:
            continue
        warnings: list[ImageNote] = []
        unfit = _unfit_radiograph(header)
        if unfit is not None:
            reasons.append(_unsupported(unfit))
            continue
        if unread := undecodable(header):
            reasons.append(unread)
            continue
        rule = rules.of(header)
        if not rule.encode:
            reasons.append(Skipped(rule.because, reason_code=rule.reason))
            continue
        part = body_part_of(header)
        if part is BodyPart.UNKNOWN:
            warnings.append(_UNKNOWN_PART)
        view = view_of(header.attributes)
        if view is View.LATERAL:
            warnings.append(ImageNote(code=ImageNoteCode.ONLY_LATERAL))
        rank = (
            part is not BodyPart.CHEST,
            {View.FRONTAL: 0, None: 1, View.LATERAL: 2}[view],
            header.sop_class_uid == DX_FOR_PROCESSING,
            text(header.attributes, "ImageType").upper() == "DERIVED",
            text(header.attributes, "ViewPosition").upper() != "PA",
        )
        candidate = Candidate(kind=ImageKind.CXR, headers=(header,), view=view, warnings=tuple(warnings))
        found.append((tuple(float(part) for part in rank), candidate))
    return [candidate for _, candidate in sorted(found, key=lambda ranked: ranked[0])]


def _unsupported(text: str) -> Skipped:
    return Skipped(text, reason_code=ReasonCode.UNSUPPORTED_IMAGE)


def _unfit_radiograph(header: InstanceHeader) -> str | None:
    if not header.rows_px or not header.columns_px:
        return "an object without an image"
    if is_colour(header):
        return "a colour picture"
    if header.frames > 1:
        return "a radiograph of several frames"
    if min(header.rows_px, header.columns_px) < _SMALLEST_PX:
        return f"a radiograph of fewer than {_SMALLEST_PX} rows or columns"
    return None


def _ct_series(headers: Sequence[InstanceHeader], rules: Rules, reasons: list[Skipped]) -> list[Candidate]:
    series: dict[str, list[InstanceHeader]] = {}
    for header in headers:
        if header.modality == "CT":
            if header.sop_class_uid not in _CT_CLASSES:
                reasons.append(_unsupported("a secondary capture"))
            elif not header.rows_px or is_colour(header):
                reasons.append(_unsupported("an object without a grey image"))
            elif unread := undecodable(header):
                reasons.append(unread)
            elif is_localizer(header):
                reasons.append(_unsupported("a CT localizer"))
            elif not (rule := rules.of(header)).encode:
                reasons.append(Skipped(rule.because, reason_code=rule.reason))
            else:
                series.setdefault(header.series_uid, []).append(header)
    enough = [members for members in series.values() if sum(h.frames for h in members) >= CtRules().fewest_slices]
    longest_mm = max((_coverage_mm(members) for members in enough), default=0.0)
    ranked = sorted(series.values(), key=lambda members: _ct_rank(members, longest_mm))
    return [
        Candidate(
            kind=ImageKind.CT,
            headers=tuple(members),
            warnings=(_UNKNOWN_PART,) if body_part_of(members[0]) is BodyPart.UNKNOWN else (),
        )
        for members in ranked
    ]


def _ct_rank(members: Sequence[InstanceHeader], longest_mm: float) -> tuple[float, ...]:
    """Sort key, best first: enough slices, chest, axial, whole coverage, sensible thickness, original, more slices."""
    slices = sum(header.frames for header in members)
    attributes = members[0].attributes
    orientation = numbers(attributes, "ImageOrientationPatient", 6)
    axial = orientation is None or (abs(orientation[0]) > 0.9 and abs(orientation[4]) > 0.9)
    coverage_mm = _coverage_mm(members)
    thickness = value(attributes, "SliceThickness")
    thickness_mm = float(thickness) if isinstance(thickness, (int, float)) and thickness > 0 else 5.0
    thinnest, thickest = _SENSIBLE_THICKNESS_MM
    return (
        float(slices < CtRules().fewest_slices),
        float(body_part_of(members[0]) is not BodyPart.CHEST),
        float(not axial),
        0.0 if coverage_mm >= _WHOLE_COVERAGE * longest_mm else 1 - coverage_mm / longest_mm,
        max(thinnest / thickness_mm, thickness_mm / thickest, 1.0),
        float(text(attributes, "ImageType").upper() == "DERIVED"),
        -float(slices),
    )


def _coverage_mm(members: Sequence[InstanceHeader]) -> float:
    """How far the slices reach along the body; for multi-frame instances, estimated from the number of frames."""
    heights = [p[2] for h in members if (p := numbers(h.attributes, "ImagePositionPatient", 3)) is not None]
    if heights:
        return max(heights) - min(heights)
    return float(sum(header.frames for header in members if header.frames > 1))


def _nothing_supported(headers: Sequence[InstanceHeader]) -> Skipped:
    names = {h.modality for h in headers if h.modality and re.fullmatch(r"[A-Z]{2,12}", h.modality)}
    images = any(h.rows_px or values(h.attributes, "ImageType") for h in headers)
    listed = f" ({', '.join(sorted(names)[:8])})" if names else ""
    if images:
        return Skipped(f"modality not supported{listed}", reason_code=ReasonCode.UNSUPPORTED_MODALITY)
    return Skipped(f"no image in the study{listed}", reason_code=ReasonCode.NO_IMAGE)
