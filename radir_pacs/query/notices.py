"""The wording of notices: in English here, for Warning headers and the terminal; translations are in web/strings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from radir_pacs import anatomy
from radir_pacs.image_notes import ImageNoteCode
from radir_pacs.similar_cases import Notice, NoticeCode

ENGLISH: Mapping[str, str] = {
    NoticeCode.TOO_FEW_CASES: "{asked} has too few cases: answered from {answered}",
    NoticeCode.NOT_A_REGION_OF_THE_MODEL: "{asked} is not a region of this model: answered from {answered}",
    NoticeCode.FEW_CANDIDATES: "only {count} available for {region}",
    NoticeCode.PARTLY_ENCODED: "model {model} has encoded {percent} % of the studies so far; the others are not found",
    NoticeCode.INTENDED_USE: "model {model}: {text}",
    NoticeCode.IMAGE: "{said}",
    NoticeCode.FILTER_IGNORED: "{keyword} is not a filter of the similar-case query and was ignored",
    NoticeCode.FINDING_FILTERS: "{finding!r} was read as a finding: only cases whose report affirms it in the {region}",
    NoticeCode.WORDS_OF_A_REGION: "ordered by the words '{words}', on which the model may not be trained; {count},"
    " those most alike in the {region}. Measured on synthetic patients (Recall@5): {found} for regions never trained,"
    " by their name; {above} by the trained region above them; {trained} where trained; {chance} by chance; other"
    " words for a trained region {other_words}, where the region above it finds {other_above}",
    NoticeCode.WORDS_OF_A_FINDING: "ordered by how much each case shows '{words}', which the model may not be trained"
    " on; {count}, those most alike in the {region}. Measured on synthetic patients (area under the ROC curve): {found}"
    " for phrases never trained; {trained} where trained; {chance} by chance",
    NoticeCode.WITHOUT_TOKENS: "left out, since no image tokens of them are kept: {count}",
    NoticeCode.FINDING_DENIED: "'no {finding}' was read as a finding and filters nothing; the cases are alike in the"
    " {region}",
}
ENGLISH_OF_IMAGES: Mapping[str, str] = {
    ImageNoteCode.BODY_PART_UNKNOWN: "the body part is unknown; taken for a chest",
    ImageNoteCode.ONLY_LATERAL: "only a lateral view",
    ImageNoteCode.NO_SIDES: "a lateral view: regions of one side are left out",
    ImageNoteCode.VIEW_UNKNOWN: "the view is unknown",
    ImageNoteCode.LUT_SHAPE_FOLLOWED: "Presentation LUT Shape was followed against Photometric Interpretation",
    ImageNoteCode.PHOTOMETRIC_FOLLOWED: "Photometric Interpretation was followed against Presentation LUT Shape",
    ImageNoteCode.WINDOW_REPLACED: "the VOI window leaves hardly any shade; a percentile window was used",
    ImageNoteCode.SPACING_ASSUMED: "the pixel spacing is unknown; a field of {field_mm:.0f} mm is assumed",
    ImageNoteCode.SHORT_SERIES: "the series covers {covered_mm:.0f} mm from feet to head, less than a chest",
    ImageNoteCode.STRAY_SLICES: "left out because of another size, spacing or orientation: {count} of the slices",
    ImageNoteCode.SEVERAL_PHASES: "the series holds {count} phases; the first was used",
    ImageNoteCode.SAME_POSITION: "left out because of a position already taken: {count} of the slices",
    ImageNoteCode.GAPS_FILLED: "missing slices, about {count}, were interpolated; the widest gap is {widest_mm:.0f} mm",
    ImageNoteCode.UNEVEN_SPACING: "the slices are unevenly spaced; they were resampled",
    ImageNoteCode.THINNED: "one slice in {every} was used",
    ImageNoteCode.TILTED: "the gantry was tilted by {degrees:.0f} degrees",
    ImageNoteCode.NOT_AXIAL: "the series was not acquired axially",
    ImageNoteCode.EARLIER: "{text}",
}
_REGIONS = frozenset({"asked", "answered", "region"})


def worded(
    notice: Notice,
    templates: Mapping[str, str] = ENGLISH,
    of_images: Mapping[str, str] = ENGLISH_OF_IMAGES,
    *,
    region_name: Callable[[str], str] = lambda key: anatomy.region(key).name,
    finding_name: Callable[[str], str] = lambda key: key.replace("_", " "),
    cases: Callable[[int], str] = lambda count: f"{count} case" if count == 1 else f"{count} cases",
) -> str:
    """``notice`` in the language of ``templates`` (a sentence per code) and ``of_images`` (one per code of an image
    note), with that language's names.

    cases: words a number of cases, since languages differ in their plurals.
    """
    if notice.code is NoticeCode.IMAGE:
        said = of_images[str(notice.values["note"])].format(**notice.values)
        return templates[notice.code].format(said=said)
    names: dict[str, Callable[[str], str]] = dict.fromkeys(_REGIONS, region_name) | {"finding": finding_name}
    filled = {
        name: cases(value) if isinstance(value, int) else names.get(name, str)(str(value))
        for name, value in notice.values.items()
    }
    return templates[notice.code].format(**filled)
