"""The one intake of reports that come as text, whatever brings them: which versions are in force, and which wait.

Every version is kept as its sender said it. Which of them are in force depends on all versions of a study, never on the
order in which they come (`in_force`); those are written to the table ``report`` in the transaction that brings a
version, with the job that mines it. A text no longer in force is removed at once, from explanations, filters and
training too.

A report whose study is not here waits. A trigger marks it when a study comes, or changes, that may be its own, and the
relay joins it (`ReportVersions.join_wanted`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from radir_pacs.catalogue.database import Connection, run
from radir_pacs.catalogue.incoming import WITHDRAWN, ReportStatus, ReportVersion, WaitingReport
from radir_pacs.catalogue.jobs import enqueue
from radir_pacs.catalogue.part import CataloguePart
from radir_pacs.catalogue.reports import report_key
from radir_pacs.catalogue.rows import Received
from radir_pacs.catalogue.studies import scope_of_sql
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput, NotFound
from radir_pacs.scopes import Scope, Withheld
from radir_pacs.types import JobKind

MOST_CHARACTERS = 1_000_000  # of one report's text
JOIN_LIMIT = 500  # in one round of the relay
_AHEAD = timedelta(days=1)  # a version from further in the future has a wrong clock, and must not hold for ever
_PART = "\x1f"  # between the sender and the part of the document, which stand in one column
_COMPLETE = frozenset({ReportStatus.FINAL, ReportStatus.AMENDED}) | WITHDRAWN
_WITHDRAWN_PART: dict[str, Any] = {  # of a document that no longer has it
    "status": ReportStatus.CANCELLED,
    "body": "",
    "content_sha256": hashlib.sha256(b"").hexdigest(),
    "replaces": [],
}


@dataclass(frozen=True, kw_only=True)
class Version:
    """A stored version, as far as it matters to the others."""

    id: int
    group: tuple[str, str, str]  # source, sender, document; in one study its parts are one report
    status: ReportStatus
    version_at: datetime
    sent_at: datetime
    content_sha256: str
    replaces: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[datetime, datetime, int]:
        return self.version_at, self.sent_at, self.id


def in_force(versions: Iterable[Version]) -> list[Version]:
    """Those of one study that hold, oldest first.

    Of a document its newest complete version and the addenda after it; a preliminary one only while there is no
    complete one; nothing of it where the newest complete version withdraws it, or another document takes its place.
    """
    groups: dict[tuple[str, str, str], list[Version]] = {}
    for version in sorted(versions, key=lambda version: version.place):
        groups.setdefault(version.group, []).append(version)
    replaced = {
        (*group[:2], name)
        for group, members in groups.items()
        for member in members
        for name in member.replaces
        if name != group[2]
    }
    held: list[Version] = []
    for group, members in groups.items():
        if group not in replaced:
            held += _of_document(members)
    return sorted(held, key=lambda version: version.place)


def _of_document(members: Sequence[Version]) -> list[Version]:
    """``members``: oldest first."""
    complete = [version for version in members if version.status in _COMPLETE]
    newest = complete[-1] if complete else None
    if newest is not None and newest.status in WITHDRAWN:
        return []
    drafts = [version for version in members if version.status is ReportStatus.PRELIMINARY]
    base = newest or (drafts[-1] if drafts else None)
    addenda = {
        version.content_sha256: version
        for version in members
        if version.status is ReportStatus.ADDENDUM and (newest is None or version.place > newest.place)
    }
    return [*([base] if base else []), *addenda.values()]


class ReportVersions(CataloguePart):
    def receive(self, version: ReportVersion) -> Received:
        """Keep a version; the same one again changes nothing. Raises BadInput for more text than a report has."""
        with self._database.transaction() as connection:
            return receive(connection, self._settings, version)

    def receive_within(self, versions: Sequence[ReportVersion], scope: Scope) -> list[tuple[Received, str | None]]:
        """All parts of a document, or none, from a sender of that scope: of each what became of it, and the UID of the
        study that it is about.

        Raises NotFound where the scope confines and a study is outside or not known yet: a report that waited could
        join a foreign study later, by its number or its document.
        """
        in_order = sorted(versions, key=lambda version: version.study_uid or "")  # so two senders lock in one order
        with self._database.transaction() as connection:
            return [_receive(connection, self._settings, version, scope) for version in in_order]

    def join_wanted(self) -> int:
        """Give their studies to reports that waited for them; returns how many found one."""
        with self._database.transaction() as connection:
            ids = [row["id"] for row in run(connection, "wanted_reports", limit=JOIN_LIMIT)]
        joined = 0
        for version_id in ids:
            with self._database.transaction() as connection:
                joined += self._join(connection, version_id)
        return joined

    def _join(self, connection: Connection, version_id: int) -> bool:
        row = run(connection, "waiting_report", id=version_id).fetchone()
        if row is None:  # another version of its document brought it along
            return False
        study_uid = _study_of(connection, row)
        if study_uid is None:
            run(connection, "not_wanted", id=version_id)
            return False
        _join_to_study(connection, self._settings, row, study_uid)
        return True

    def look_again(self) -> int:
        """Mark reports that came while their study did, each in a transaction that did not see the other's."""
        with self._database.transaction() as connection:
            return run(connection, "want_late_reports").rowcount

    def waiting(self, limit: int = 100) -> tuple[WaitingReport, ...]:
        """Reports without their study, the newest first."""
        with self._database.transaction() as connection:
            rows = run(connection, "waiting_reports", limit=limit).fetchall()
        return tuple(WaitingReport(**(row | {"status": ReportStatus(row["status"])})) for row in rows)

    def prune(self, keep_s: float) -> int:
        """Forget reports that waited longer than ``keep_s``; most are of studies that are never sent here."""
        with self._database.transaction() as connection:
            run(connection, "prune_order_links", keep_s=keep_s)
            return run(connection, "prune_waiting_reports", keep_s=keep_s).rowcount


def receive(connection: Connection, settings: Settings, version: ReportVersion) -> Received:
    """`ReportVersions.receive` inside a transaction."""
    return _receive(connection, settings, version, Scope())[0]


def _receive(
    connection: Connection, settings: Settings, version: ReportVersion, scope: Scope
) -> tuple[Received, str | None]:
    if len(version.body) > MOST_CHARACTERS:
        raise BadInput(f"the report has more than {MOST_CHARACTERS} characters")
    values = _values(version)
    if version.document and version.status in _COMPLETE:
        run(connection, "lock_document", values, whole=version.sender)
        gone = _withdraw_other_parts(connection, settings, version, values, scope)
        if gone and version.status in WITHDRAWN:
            if scope.confines and _study_of(connection, values) is None:  # nameless; its parts were in the scope
                return Received.WITHDRAWN, gone[0]
            return Received.WITHDRAWN, _keep(connection, settings, values, scope)[1]
        newer = run(connection, "newer_without_part", values, whole=version.sender).fetchone()
        if newer is not None and version.status not in WITHDRAWN:
            kept = _keep(connection, settings, values, scope)
            _keep(connection, settings, values | _WITHDRAWN_PART | newer, scope)
            return Received.SAME if kept[0] is Received.SAME else Received.LATE, kept[1]
    return _keep(connection, settings, values, scope)


def _withdraw_other_parts(
    connection: Connection, settings: Settings, version: ReportVersion, values: dict[str, Any], scope: Scope
) -> list[str | None]:
    """Parts of the document that this version of it no longer has; returns the UIDs of their studies."""
    named = [_sender(version.sender, part) for part in (version.part, *version.parts)]
    others = run(connection, "other_parts", values, whole=version.sender, named=named).fetchall()
    return [_keep(connection, settings, values | _WITHDRAWN_PART | other, scope)[1] for other in others]


def _keep(
    connection: Connection, settings: Settings, values: dict[str, Any], scope: Scope
) -> tuple[Received, str | None]:
    study_uid = _study_of(connection, values)
    if study_uid is not None:
        run(connection, "lock_study", study_uid=study_uid)
    if scope.confines and not _is_within(connection, study_uid, scope):
        raise NotFound("the report is of no study here: name one of yours, and send the report after its images")
    newest = run(connection, "newest_version", values, study_uid=study_uid).fetchone()
    same = newest and (newest["status"], newest["content_sha256"]) == (values["status"], values["content_sha256"])
    if newest and same and (not values["document"] or values["version_at"] <= newest["version_at"]):
        if study_uid is not None:
            apply_versions_in_force(connection, settings, study_uid)
        return Received.SAME, study_uid
    row = run(connection, "add_version", values).fetchone()
    assert row is not None
    if study_uid is None:
        return Received.WAITING, None
    before, held = _join_to_study(connection, settings, values, study_uid)
    if same:
        return Received.SAME, study_uid
    if values["status"] in WITHDRAWN:
        return Received.WITHDRAWN, study_uid
    if row["id"] not in held:
        return Received.LATE, study_uid
    return Received.REPLACED if before - held else Received.NEW, study_uid


def _is_within(connection: Connection, study_uid: str | None, scope: Scope) -> bool:
    """Whether the study, which is locked, may be changed. A feed goes on for patients who are withheld."""
    sought = {"study_uids": [study_uid], "scope": scope_of_sql(scope.seeing(Withheld.FROM_ALL))}
    return study_uid is not None and run(connection, "in_scope", sought).fetchone() is not None


def _join_to_study(
    connection: Connection, settings: Settings, row: dict[str, Any], study_uid: str
) -> tuple[set[int], set[int]]:
    """A version, and all others of its document, belong to this study now; ids that held before, and that hold now."""
    run(connection, "lock_study", study_uid=study_uid)
    before = {version.id for version in in_force(_versions(connection, study_uid))}
    run(connection, "join_version", row, joined=study_uid)
    return before, apply_versions_in_force(connection, settings, study_uid)


def apply_versions_in_force(connection: Connection, settings: Settings, study_uid: str) -> set[int]:
    """Bring the study's reports to what holds of its versions, with the jobs that mine; the ids that hold.

    A withdrawn text goes whoever else brought it. The study is locked.
    """
    versions = _versions(connection, study_uid)
    held = in_force(versions)
    texts = {version.content_sha256 for version in held}
    gone = [version.content_sha256 for version in versions if version.content_sha256 not in texts]
    dropped = run(connection, "drop_texts", study_uid=study_uid, hashes=gone).fetchall()
    will_settle = not any(row["adds"] for row in dropped)
    for version in held:
        added = run(connection, "report_of_version", id=version.id).fetchone()
        row = added or run(connection, "report_of_text", id=version.id).fetchone()
        if row is not None and row["unmined"]:
            enqueue(connection, JobKind.REPORT, report_key(row["id"]), settings.job_max_attempts)
            will_settle = True
    run(connection, "settle_reports", study_uid=study_uid)
    run(connection, "note_report", study_uid=study_uid)
    if not will_settle:  # what an addendum made history holds again without it
        left = run(connection, "any_report", study_uid=study_uid).fetchone()
        if left is not None:
            enqueue(connection, JobKind.REPORT, report_key(left["id"]), settings.job_max_attempts)
    return {version.id for version in held}


def _versions(connection: Connection, study_uid: str) -> list[Version]:
    return [
        Version(
            id=row["id"],
            group=(row["source"], row["sender"].partition(_PART)[0], row["document"]),
            status=ReportStatus(row["status"]),
            version_at=row["version_at"],
            sent_at=row["sent_at"],
            content_sha256=row["content_sha256"],
            replaces=tuple(row["replaces"]),
        )
        for row in run(connection, "versions_of", study_uid=study_uid)
    ]


def _study_of(connection: Connection, values: dict[str, Any]) -> str | None:
    """The study of a report: of its document's other versions, the one it names, the only one its number names.

    None where there is none, or where the number names several.
    """
    row = run(connection, "study_of_document", values).fetchone() or run(connection, "study_named", values).fetchone()
    if row is not None:
        return str(row["study_uid"])
    rows = run(connection, "studies_of_numbers", values).fetchall()
    return str(rows[0]["study_uid"]) if len(rows) == 1 else None


def _sender(sender: str, part: str) -> str:
    return f"{sender}{_PART}{part}" if part else sender


def _hash(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _values(version: ReportVersion) -> dict[str, Any]:
    now = datetime.now(UTC)
    sent_at = version.sent_at if version.sent_at is not None and version.sent_at < now + _AHEAD else now
    version_at = version.version_at if version.version_at is not None and version.version_at < now + _AHEAD else sent_at
    return {
        "source": version.source,
        "sender": _sender(version.sender, version.part),
        "document": version.document,
        "status": version.status,
        "version_at": version_at,
        "sent_at": sent_at,
        "body": version.body,
        "content_sha256": _hash(version.body),
        "replaces": list(version.replaces),
        "named_study_uid": version.study_uid,
        "numbers": list(version.numbers),
        "patient_keys": list(version.patient_keys),
    }
