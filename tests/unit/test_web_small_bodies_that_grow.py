"""Small request bodies that ask for much: many empty gzip members, long lists in XML, one part named by many."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from radir_pacs.errors import BadInput, TooLarge
from radir_pacs.multipart import MimePart
from radir_pacs.storage.blobs import BlobStore
from radir_pacs.web.content_coding import InflatingStream
from radir_pacs.web.dicomweb.bulk_parts import BulkParts
from radir_pacs.web.dicomweb.native_xml import from_xml


def test_several_gzip_members_are_one_body_and_far_too_many_are_refused() -> None:
    stream = InflatingStream(io.BytesIO(gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two")), 100)
    assert b"".join(iter(stream.read, b"")) == b"one two"
    with pytest.raises(BadInput, match="members"):
        InflatingStream(io.BytesIO(gzip.compress(b"") * 100_001), 100).read()


def xml(number: int) -> bytes:
    value = f'<DicomAttribute tag="00080008" vr="CS"><Value number="{number}">A</Value></DicomAttribute>'
    return f"<NativeDicomModel>{value}</NativeDicomModel>".encode()


def test_empty_values_may_be_left_out_of_xml_within_reason() -> None:
    assert from_xml(xml(3)) == {"00080008": {"vr": "CS", "Value": [None, None, "A"]}}
    with pytest.raises(BadInput, match="leaves out"):
        from_xml(xml(100_000))


def test_one_part_that_many_instances_name_counts_each_time(tmp_path: Path) -> None:
    with BlobStore(tmp_path).incoming() as spool:
        bulk = BulkParts(spool=spool, left_bytes=250)
        bulk.add(MimePart(headers={"content-location": "pixels"}, body=iter([bytes(60), bytes(40)])))
        assert [piece.length for piece in bulk.at("pixels")] == [100]
        bulk.at("pixels")
        with pytest.raises(TooLarge):
            bulk.at("pixels")
