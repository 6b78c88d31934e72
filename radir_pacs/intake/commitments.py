"""Whether we answer for instances: in the catalogue, of the class that was named, and their files whole."""

from __future__ import annotations

import threading

from radir_pacs.catalogue import Catalogue, Commitment
from radir_pacs.delivery.commitment import (
    CLASS_INSTANCE_CONFLICT,
    NO_SUCH_INSTANCE,
    PROCESSING_FAILURE,
    CommitmentResult,
)
from radir_pacs.errors import BlobDamaged
from radir_pacs.storage.blobs import BlobStore

_READING = threading.Lock()  # one request at a time in a process: each may name 50,000 files (P6)


def check(commitment: Commitment, catalogue: Catalogue, blobs: BlobStore) -> CommitmentResult:
    """Read all files and see what holds now; asked again later, more may have arrived. Raises StorageFailed.

    A peer that is told yes may delete the only other copy, so every byte is read. What is found damaged is noted.
    """
    held = catalogue.commitments.held([sop_uid for _, sop_uid in commitment.instances])
    committed, failed = [], []
    with _READING:
        for sop_class_uid, sop_uid in commitment.instances:
            found = held.get(sop_uid)
            if found is None or found.is_away:  # not pulled for this: whoever asks is about to delete it
                failed.append((sop_class_uid, sop_uid, NO_SUCH_INSTANCE))
            elif found.sop_class_uid != sop_class_uid:
                failed.append((sop_class_uid, sop_uid, CLASS_INSTANCE_CONFLICT))
            elif found.is_damaged or not _is_whole(found.content_sha256, catalogue, blobs):
                failed.append((sop_class_uid, sop_uid, PROCESSING_FAILURE))
            else:
                committed.append((sop_class_uid, sop_uid))
    return CommitmentResult(transaction_uid=commitment.transaction_uid, committed=committed, failed=failed)


def checked_result(commitment: Commitment) -> CommitmentResult:
    """The result of a commitment that was checked."""
    failed = commitment.failed or ()
    missing = {sop_uid for _, sop_uid, _ in failed}
    return CommitmentResult(
        transaction_uid=commitment.transaction_uid,
        committed=[pair for pair in commitment.instances if pair[1] not in missing],
        failed=failed,
    )


def _is_whole(sha256: str, catalogue: Catalogue, blobs: BlobStore) -> bool:
    try:
        blobs.intact(sha256)
    except BlobDamaged:
        catalogue.damage.note(sha256)
        return False
    return True
