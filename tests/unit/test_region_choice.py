"""The regions that a page offers for a study."""

from __future__ import annotations

from radir_pacs import anatomy
from radir_pacs.types import ImageKind
from radir_pacs.web.pages.region_choice import grouped


def keys(known: set[str], *kinds: ImageKind) -> list[set[str]]:
    return [{region.key for region in regions} for _, regions in grouped(known, kinds)]


def test_the_models_own_come_first_and_no_region_stands_twice() -> None:
    own, others = keys({"chest", "left_lung"}, ImageKind.CXR)
    assert own == {"chest", "left_lung"}
    assert "left_lower_lobe" in others and not own & others


def test_a_radiograph_is_asked_about_the_gallbladder_only_where_the_model_knows_it() -> None:
    assert not any("gallbladder" in group for group in keys({"chest"}, ImageKind.CXR))
    assert "gallbladder" in keys({"chest", "gallbladder"}, ImageKind.CXR)[0]
    assert "gallbladder" in keys({"chest"}, ImageKind.CT)[1]


def test_only_what_such_images_show() -> None:
    shown = {region.key for region in anatomy.regions(ImageKind.CXR)}
    assert keys({"chest"}, ImageKind.CXR)[1] <= shown


def test_a_study_that_no_model_has_read_offers_nothing() -> None:
    assert grouped((), ()) == ()
