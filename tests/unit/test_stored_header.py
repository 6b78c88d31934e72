"""Whatever is stored in the catalogue can be turned into a data set."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radir_pacs.dicom.elements import NUMBER_VRS, TEXT_VRS
from radir_pacs.dicom.stored_header import dataset_of

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["2048,0", "120 kV", "AUTO", "7.0", "1e400", "\x00", "ä" * 200]),
    st.dictionaries(
        st.sampled_from(["Alphabetic", "Phonetic", "00080100"]), st.none() | st.text(max_size=5), max_size=2
    ),
)
VRS = sorted(TEXT_VRS | NUMBER_VRS | {"AT", "OB", "OW", "SQ", "UN", "ZZ"})
ELEMENTS = st.fixed_dictionaries(
    {"vr": st.sampled_from(VRS)},
    optional={"Value": st.none() | st.lists(ODD, max_size=3), "InlineBinary": st.just("AA==")},
)


@given(
    st.dictionaries(st.sampled_from(["00100010", "00280010", "00180060", "00091001", "nonsense", "ZZZZZZZZ"]), ELEMENTS)
)
def test_nothing_that_was_stored_raises_or_warns(attributes: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = [str(element.value) for element in dataset_of(attributes)]
    assert len(shown) <= len(attributes)


@pytest.mark.parametrize(
    ("vr", "stored", "meant"),
    [
        ("DS", [0.5, "0,25"], [0.5, 0.25]),
        ("DS", ["AUTO", 1.0], None),
        ("DS", [1e308], None),
        ("IS", ["7.0"], 7),
        ("IS", [7.5], None),
        ("US", [512], 512),
        ("LO", ["a", None, "b"], ["a", "", "b"]),
        ("LO", [], None),
        ("PN", [{"Alphabetic": "A^B", "Phonetic": "C"}], "A^B==C"),
        ("UI", ["1.02.3"], "1.02.3"),
        ("OB", ["x"], "absent"),
    ],
)
def test_values_keep_their_meaning(vr: str, stored: list[Any], meant: Any) -> None:
    ds = dataset_of({"00091001": {"vr": vr, "Value": stored}})
    if meant == "absent":
        assert len(ds) == 0
    else:
        assert ds[0x00091001].value == meant or (meant is None and ds[0x00091001].is_empty)


def test_sequences_are_data_sets() -> None:
    item = {"00080100": {"vr": "SH", "Value": ["AB"]}, "00181063": {"vr": "DS", "Value": ["x"]}}
    ds = dataset_of({"00540220": {"vr": "SQ", "Value": [item, None, "odd"]}})
    assert [entry.CodeValue for entry in ds.ViewCodeSequence] == ["AB"]
