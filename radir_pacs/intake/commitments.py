"""Whether we answer for instances: they are in the catalogue, of the class that was named, and their files are here."""

from __future__ import annotations

from radir_pacs.catalogue import Catalogue, Commitment
from radir_pacs.delivery.commitment import (
    CLASS_INSTANCE_CONFLICT,
    NO_SUCH_INSTANCE,
    PROCESSING_FAILURE,
    CommitmentResult,
)
from radir_pacs.storage.blobs import BlobStore


def result_of(commitment: Commitment, catalogue: Catalogue, blobs: BlobStore) -> CommitmentResult:
    """What holds now; asked again later, more may have arrived. Raises StorageFailed."""
    held = catalogue.commitments.held([sop_uid for _, sop_uid in commitment.instances])
    committed, failed = [], []
    for sop_class_uid, sop_uid in commitment.instances:
        found = held.get(sop_uid)
        if found is None:
            failed.append((sop_class_uid, sop_uid, NO_SUCH_INSTANCE))
        elif found.sop_class_uid != sop_class_uid:
            failed.append((sop_class_uid, sop_uid, CLASS_INSTANCE_CONFLICT))
        elif found.is_damaged or not _is_whole(blobs, found.content_sha256, found.size_bytes):
            failed.append((sop_class_uid, sop_uid, PROCESSING_FAILURE))
        else:
            committed.append((sop_class_uid, sop_uid))
    return CommitmentResult(transaction_uid=commitment.transaction_uid, committed=committed, failed=failed)


def _is_whole(blobs: BlobStore, sha256: str, size_bytes: int) -> bool:
    try:
        return blobs.path(sha256).stat().st_size == size_bytes
    except OSError:
        return False
