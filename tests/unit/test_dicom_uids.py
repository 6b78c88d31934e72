from __future__ import annotations

import pytest

from radir_pacs.dicom.uids import derived_uid, is_valid_uid


@pytest.mark.parametrize("uid", ["1.2", "1.2.840.10008.1.2", "2.25.0", "0.0", "1." + "1" * 62, "1.02", "01.2"])
def test_what_the_standard_allows_and_leading_zeros_are_valid(uid: str) -> None:
    assert is_valid_uid(uid)


@pytest.mark.parametrize(
    "uid",
    ["", "1", "1.", ".1", "1..2", "1.2\n", " 1.2", "1.2.a", "../../etc/x", "1." + "1" * 63, "１.2"],
)
def test_everything_else_is_not(uid: str) -> None:
    assert not is_valid_uid(uid)


def test_derived_uids_follow_from_their_names_and_nothing_else() -> None:
    assert derived_uid("a", "b") == derived_uid("a", "b")
    assert len({derived_uid("a", "b"), derived_uid("ab"), derived_uid("a", "b", ""), derived_uid("b", "a")}) == 4
    assert is_valid_uid(derived_uid("a"))
