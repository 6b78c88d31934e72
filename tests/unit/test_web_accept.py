"""Accept headers, from tidy to hostile."""

from __future__ import annotations

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from radir_pacs.errors import BadInput, NotAcceptable
from radir_pacs.web.dicomweb.accept import choose, multipart, parse_accept, parse_media_type

APP = Flask("test")
PART = multipart("application/dicom")


def chosen(accept: str, *offers: str, query: str = "") -> str:
    with APP.test_request_context("/?" + query, headers={"Accept": accept}):
        return choose(offers)[0]


@pytest.mark.parametrize(
    ("accept", "offer"),
    [
        ("", "a/b"),
        ("*/*", "a/b"),
        ("a/c", "a/c"),
        ("a/*", "a/b"),
        ("a/b;q=0.1, a/c", "a/c"),
        ("a/c;q=0.5, */*;q=0.1", "a/c"),
        ('multipart/related; type="application/dicom"; transfer-syntax=*', PART),
        ("multipart/related; type=application/dicom", PART),
        ("multipart/related", PART),
        ('multipart/related; type="application/*"', PART),
        ("A/C", "a/c"),
        ("a/c,,", "a/c"),
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "a/b"),  # Java 8 to 18
        ("text/html, image/gif, image/jpeg, *; q=.2, a/c; q=.2", "a/c"),
        ("a/c;q=high, a/b", "a/b"),
        ("a, , ;, a/c", "a/c"),
        ("multipart/*", PART),
        ("application/dicom;v=1, a/c;level=2", "a/c"),
    ],
)
def test_the_best_offer_is_chosen(accept: str, offer: str) -> None:
    assert chosen(accept, "a/b", "a/c", PART) == offer


@pytest.mark.parametrize("accept", ["x/y", "a/b;q=0", "multipart/related; type=image/jpeg", "multipart/mixed"])
def test_nothing_acceptable(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        chosen(accept, "a/b", PART)


@pytest.mark.parametrize(
    "accept", ["a", "a/", "/b", "a b/c", "a/b;q=x", "a/b;q=2", "a/b;q=nan", "x/y," * 40, "a/b;" + "c" * 9000]
)
def test_malformed(accept: str) -> None:
    with pytest.raises(BadInput):
        chosen(accept, "x/z")


def test_the_query_parameter_wins_over_the_header() -> None:
    assert chosen("a/b", "a/b", "a/c", query="accept=a/c") == "a/c"


@pytest.mark.parametrize("written", ["a/c+json", "a/c%2Bjson", "a/c%20json", "a/c+json;q=0.9,a/b;q=0.1"])
def test_a_plus_in_the_query_parameter_may_be_bare(written: str) -> None:
    assert chosen("a/b", "a/b", "a/c+json", query=f"accept={written}") == "a/c+json"


def test_quotes_hide_separators() -> None:
    found = parse_media_type('multipart/related; boundary="a;b,c"; Type="X/Y"')
    assert (found.parameters["boundary"], found.part) == ("a;b,c", "x/y")
    assert len(parse_accept('a/b; c="d,e", f/g')) == 2


@given(st.text(max_size=60))
def test_anything_parses_or_is_bad_input(text: str) -> None:
    try:
        ranges = parse_accept(text)
    except BadInput:
        return
    assert all(0 < each.weight <= 1 for each in ranges)
