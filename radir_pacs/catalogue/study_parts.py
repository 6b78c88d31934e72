"""Many studies, in parts whose instances take little memory (P6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from radir_pacs.catalogue.database import Database, run


def in_parts(database: Database, study_uids: Sequence[str], most: int) -> Iterator[list[str]]:
    """These studies in parts of at most so many instances; one study is never divided."""
    with database.transaction() as connection:
        rows = run(connection, "instances_in", study_uids=list(study_uids)).fetchall()
    counts = {row["study_uid"]: int(row["instances"]) for row in rows}
    part, left = list[str](), most
    for study_uid in study_uids:
        count = counts.get(study_uid, 0)
        if part and count > left:
            yield part
            part, left = [], most
        part.append(study_uid)
        left -= count
    if part:
        yield part
