"""C-STORE as bytes: we read what pynetdicom writes, it reads what we write, and the heads of files are alike."""

from __future__ import annotations

import io

import pytest
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import create_file_meta
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA

from radir_pacs.dicom.file_head import file_head
from radir_pacs.errors import BadInput
from radir_pacs.listener import c_store


def command(*, with_data: bool = True) -> bytes:
    """A C-STORE request as pynetdicom writes it."""
    primitive = C_STORE()
    primitive.MessageID = 7
    primitive.AffectedSOPClassUID = CTImageStorage
    primitive.AffectedSOPInstanceUID = "1.2.345"
    primitive.Priority = 2
    primitive.DataSet = io.BytesIO(b"data" if with_data else b"")
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    fragment: bytes = next(message.encode_msg(1, 16382)).presentation_data_value_list[0][1]
    return fragment[1:]


def request(**changes: object) -> c_store.StoreRequest:
    given = {"context_id": 3, "message_id": 7, "sop_class_uid": CTImageStorage, "sop_uid": "1.2.345"}
    return c_store.StoreRequest(**(given | {"has_data_set": True} | changes))  # type: ignore[arg-type]


def test_a_request_is_read() -> None:
    assert c_store.parse(3, command()) == request()


def test_another_message_is_not_read() -> None:
    """C-ECHO-RQ (PS3.7 9.3.5) has Command Field 0030H; a message without one is none that we know."""
    of_store, of_echo = (b"\0\0\0\x01\x02\0\0\0" + field for field in (b"\x01\0", b"\x30\0"))
    assert of_store in command()
    assert c_store.parse(3, command().replace(of_store, of_echo)) is None
    assert c_store.parse(3, command().replace(of_store, b"")) is None


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_command_set_that_is_cut_off_is_no_command_set(cut: int) -> None:
    whole = command()
    with pytest.raises(BadInput):
        c_store.parse(1, whole[: 8 + cut // 2])


@pytest.mark.parametrize("uid", [b"../../etc/x", b"1.2\n", b"", b"1" * 65, b"\xff"])
def test_what_is_no_uid_is_refused_and_not_repeated(uid: bytes) -> None:
    found = c_store.parse(1, command().replace(b"\x08\0\0\x001.2.345\0", len(uid).to_bytes(4, "little") + uid))
    assert found is not None and found.sop_uid == ""
    assert found.refusal is not None and found.refusal.dimse_status == c_store.INVALID_INSTANCE


@pytest.mark.parametrize("maximum_length", [0, 128, 131_072])
@pytest.mark.parametrize(
    "comment", ["", "odd length", "a \\ in it, and much more than the sixty-four characters it may have"]
)
def test_an_answer_is_what_pynetdicom_reads(maximum_length: int, comment: str) -> None:
    data = c_store.answer(request(), 0xA700, comment, maximum_length=maximum_length)
    message, complete = DIMSEMessage(), False
    while data:
        length = 6 + int.from_bytes(data[2:6], "big")
        assert not maximum_length or length - 6 <= maximum_length
        pdu = P_DATA_TF()
        pdu.decode(data[:length])
        primitive = pdu.to_primitive()
        assert isinstance(primitive, P_DATA) and not complete
        complete, data = message.decode_msg(primitive), data[length:]
    assert complete and message.context_id == 3
    answered = message.message_to_primitive()
    assert isinstance(answered, C_STORE)
    assert (answered.Status, answered.MessageIDBeingRespondedTo) == (0xA700, 7)
    assert (answered.AffectedSOPClassUID, answered.AffectedSOPInstanceUID) == (CTImageStorage, "1.2.345")
    assert (message.command_set.get("ErrorComment") or "") == comment.replace("\\", "/")[:64].rstrip()


def test_the_head_of_a_received_file_is_the_one_that_pynetdicom_writes() -> None:
    """Byte for byte: the same instance sent again has the same hash as one that was received before."""
    names = {"sop_class_uid": CTImageStorage, "transfer_syntax": ExplicitVRLittleEndian}
    for instance in ("1.2.345", "1.2.3456"):
        out = io.BytesIO()
        out.write(bytes(128) + b"DICM")
        write_file_meta_info(out, create_file_meta(sop_instance_uid=UID(instance), **names))  # type: ignore[arg-type]
        head = file_head(
            sop_class_uid=CTImageStorage,
            sop_uid=instance,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            implementation_class_uid=PYNETDICOM_IMPLEMENTATION_UID,
            implementation_version=PYNETDICOM_IMPLEMENTATION_VERSION,
        )
        assert head == out.getvalue()
