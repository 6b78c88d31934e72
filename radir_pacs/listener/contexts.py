"""Which presentation contexts are accepted (PS3.8 9.3.3.2), and with which of the offered transfer syntaxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.uid import UID
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from radir_pacs.access.peers import PeerRights
from radir_pacs.dicom.transfer_syntaxes import DECODABLE, NATIVE
from radir_pacs.listener.association_request import ProposedContext

ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED = 4

# Encapsulated pixels, video included: the data set around them is Explicit VR Little Endian (PS3.5 A.4).
_ENCAPSULATED = "1.2.840.10008.1.2.4."
_PIXELS_ELSEWHERE = frozenset(f"{_ENCAPSULATED}{number}" for number in (94, 95, 204, 205))  # JPIP: a URL instead
_DICOM_ROOT = "1.2.840.10008."
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
ALL = PeerRights()
_NAMED = 3  # how many classes a message names


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The decision on one proposed context. A refused one has a ``result`` other than 0 and no transfer syntax."""

    context: ProposedContext
    transfer_syntax: str = ""
    result: int = 0


def choose(context: ProposedContext, rights: PeerRights = ALL) -> Choice:
    """Accept the first offered transfer syntax that we can decode, or else one whose data set we can at least read."""
    if not (is_served(context.abstract_syntax) and _may(context.abstract_syntax, rights)):
        return Choice(context=context, result=ABSTRACT_SYNTAX_NOT_SUPPORTED)
    offered, stores = context.transfer_syntaxes, is_storage(context.abstract_syntax)
    usable = [uid for uid in offered if uid in (DECODABLE if stores else NATIVE)]
    if not usable and stores:
        usable = [uid for uid in offered if _is_readable(uid)]
    if not usable:
        return Choice(context=context, result=TRANSFER_SYNTAXES_NOT_SUPPORTED)
    return Choice(context=context, transfer_syntax=usable[0])


def explain(choices: Sequence[Choice]) -> tuple[str, str]:
    """(what was refused, advice) for an association; both empty if each class was accepted in some transfer syntax.

    Peers propose several contexts per class so that one of them suits; only a class left without any is a problem.
    """
    accepted = {choice.context.abstract_syntax for choice in choices if not choice.result}
    refused = {
        choice.context.abstract_syntax: choice.result
        for choice in choices
        if choice.context.abstract_syntax not in accepted
    }
    for result, what, advice in (
        (
            ABSTRACT_SYNTAX_NOT_SUPPORTED,
            "abstract syntax not supported",
            "this service only stores, and that for whom `radir peers` says so",
        ),
        (TRANSFER_SYNTAXES_NOT_SUPPORTED, "transfer syntaxes not supported", "send Explicit VR Little Endian"),
    ):
        names = sorted(str(UID(uid).name or "no UID") for uid, why in refused.items() if why == result)
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            return f"presentation context refused (result {result}, {what}): {', '.join(names[:_NAMED])}{more}", advice
    return "", ""


def _may(abstract_syntax: str, rights: PeerRights) -> bool:
    if abstract_syntax == StorageCommitmentPushModel:
        return rights.may_commit
    return rights.may_store or not is_storage(abstract_syntax)


def is_served(abstract_syntax: str) -> bool:
    """Whether it is verification, storage commitment, or any storage class, private classes included."""
    return abstract_syntax in (Verification, StorageCommitmentPushModel) or is_storage(abstract_syntax)


def is_storage(abstract_syntax: str) -> bool:
    """Whether it is a storage class; one that pydicom does not know is recognized by its root (PS3.6 annex A)."""
    if not abstract_syntax.startswith(_DICOM_ROOT):
        return bool(abstract_syntax)
    known = UID(abstract_syntax)
    if known.type:  # it is in pydicom's dictionary
        no_instances = known.name.startswith(("Storage Commitment", "Media Storage"))
        return known.type == "SOP Class" and "Storage" in known.name and not no_instances
    return abstract_syntax.startswith(_STORAGE_ROOT)


def _is_readable(uid: str) -> bool:
    return uid.startswith(_ENCAPSULATED) and uid not in _PIXELS_ELSEWHERE
