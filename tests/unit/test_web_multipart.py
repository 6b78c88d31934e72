"""The multipart reader gives back what was put in, however the bytes arrive, and holds little of it."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_bytes
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radir_pacs.multipart import MOST_PARTS, BrokenMultipart, MultipartReader, TooManyParts
from radir_pacs.web.dicomweb.multipart import FileSlice, MultipartWriter, OutgoingPart


class Trickle(BytesIO):
    """Gives at most ``step`` bytes a read, and counts the most that was ever asked for."""

    def __init__(self, data: bytes, step: int) -> None:
        super().__init__(data)
        self.step = step

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(self.step, len(self.getbuffer()) if size is None or size < 0 else size))


def together(*bodies: bytes, boundary: str = "b", preamble: bytes = b"") -> bytes:
    parts = b"".join(b"--%s\r\nA: 1\r\nB:2\r\n\r\n%s\r\n" % (boundary.encode(), body) for body in bodies)
    return preamble + parts + b"--%s--\r\nepilogue" % boundary.encode()


PIECES = [b"\r", b"\n", b"-", b"--", b"\r\n", b"\r\n-", b"b", b"x", b"\0"]
LIKE_BOUNDARIES = st.lists(st.sampled_from(PIECES)).map(b"".join)


@given(bodies=st.lists(st.one_of(st.binary(), LIKE_BOUNDARIES), max_size=4), step=st.integers(1, 40))
def test_bodies_come_back_however_they_arrive(bodies: list[bytes], step: int) -> None:
    bodies = [body for body in bodies if b"\r\n--b" not in b"\r\n" + body]
    reader = MultipartReader(Trickle(together(*bodies), step), "b")
    assert [(b"".join(part.body), part.headers) for part in reader] == [(b, {"a": "1", "b": "2"}) for b in bodies]


def test_unread_parts_are_passed_over_and_the_preamble_ignored() -> None:
    reader = MultipartReader(BytesIO(together(b"one", b"two", preamble=b"hello\r\n")), "b")
    assert [next(part.body) for part in reader] == [b"one", b"two"]
    assert len(list(MultipartReader(BytesIO(together(b"one", b"two")), "b"))) == 2


def test_a_part_may_have_no_headers() -> None:
    (part,) = ((part.headers, b"".join(part.body)) for part in MultipartReader(BytesIO(b"--b\r\n\r\nx\r\n--b--"), "b"))
    assert part == ({}, b"x")


@given(cut=st.integers(0, 60))
def test_a_body_that_ends_early_is_broken(cut: int) -> None:
    whole = together(b"one", b"two")[: -len(b"--\r\nepilogue")]
    with pytest.raises(BrokenMultipart):
        for part in MultipartReader(BytesIO(whole[:cut]), "b"):
            b"".join(part.body)


@pytest.mark.parametrize("boundary", ["", "x" * 201, "é", "a\r\nb"])
def test_boundaries_are_checked(boundary: str) -> None:
    with pytest.raises(BrokenMultipart):
        MultipartReader(BytesIO(b""), boundary)


def test_a_body_of_countless_tiny_parts_is_refused() -> None:
    """A million of them fit into a few MB and would keep a thread busy for half a minute."""
    parts = together(*[b""] * MOST_PARTS)
    assert sum(1 for _ in MultipartReader(BytesIO(parts), "b")) == MOST_PARTS
    one_more = MultipartReader(BytesIO(b"--b\r\n\r\n\r\n" + parts), "b")
    read = 0
    with pytest.raises(TooManyParts, match="more than 10000 parts"):
        for _ in one_more:
            read += 1
    assert read == MOST_PARTS
    assert len(list(MultipartReader(BytesIO(together(b"", b"")), "b", most_parts=2))) == 2
    with pytest.raises(TooManyParts):
        list(MultipartReader(BytesIO(together(b"", b"", b"")), "b", most_parts=2))


def test_a_large_body_is_never_held_whole() -> None:
    class Zeros(BytesIO):
        left = 64 << 20

        def read(self, size: int | None = -1) -> bytes:
            take = min(size or 0, self.left)
            Zeros.left -= take
            return bytes(take)

    reader = MultipartReader(Zeros(), "b")
    reader._buffer += b"--b\r\n\r\n"
    largest = 0
    with pytest.raises(BrokenMultipart):
        for part in reader:
            for chunk in part.body:
                largest = max(largest, len(chunk) + len(reader._buffer))
    assert 0 < largest < 1 << 20


def test_what_is_written_is_read_back_and_its_length_is_known(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(range(200)))
    parts = [
        OutgoingPart(content_type="application/dicom", body=file, location="http://here/1"),
        OutgoingPart(content_type="a/b", body=b"bytes"),
        OutgoingPart(content_type="a/b", body=FileSlice(path=file, offset=10, length=5)),
    ]
    writer = MultipartWriter(parts, "application/dicom")
    body = b"".join(writer)
    assert writer.length_of(parts) == len(body)
    message = message_from_bytes(f"Content-Type: {writer.content_type}\r\n\r\n".encode() + body)
    payloads = [part.get_payload(decode=True) for part in message.get_payload()]  # type: ignore[union-attr]
    assert payloads == [bytes(range(200)), b"bytes", bytes(range(10, 15))]


def test_parts_are_made_in_turn() -> None:
    made = []

    def parts() -> Iterator[OutgoingPart]:
        for name in (b"one", b"two"):
            made.append(name)
            yield OutgoingPart(content_type="a/b", body=name)

    body = iter(MultipartWriter(parts(), "a/b"))
    assert made == []
    assert [next(body), next(body)][1] == b"one"
    assert made == [b"one"]
