"""What each event is called in DICOM audit messages: codes of PS3.16 (DCM), messages of PS3.15 A.5.3."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from radir_pacs.callers import AuditEvent


class Term(StrEnum):
    """A code of the coding scheme DCM; ``meaning`` is its Code Meaning."""

    APPLICATION_ACTIVITY = "110100"
    AUDIT_LOG_USED = "110101"
    INSTANCES_ACCESSED = "110103"
    INSTANCES_TRANSFERRED = "110104"
    STUDY_DELETED = "110105"
    EXPORT = "110106"
    PATIENT_RECORD = "110110"
    QUERY = "110112"
    SECURITY_ALERT = "110113"
    USER_AUTHENTICATION = "110114"
    APPLICATION_START = "110120"
    LOGIN = "110122"
    LOGOUT = "110123"
    EMERGENCY_STARTED = "110127"
    SECURITY_CONFIGURATION = "110129"
    RESTRICTED_FUNCTION = "110132"
    OBJECT_SECURITY = "110135"
    SECURITY_ROLES = "110136"
    EMERGENCY_STOPPED = "110138"
    APPLICATION = "110150"
    LAUNCHER = "110151"
    DESTINATION = "110152"
    SOURCE = "110153"
    STUDY_UID = "110180"
    NODE_ID = "110182"

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    Term.APPLICATION_ACTIVITY: "Application Activity",
    Term.AUDIT_LOG_USED: "Audit Log Used",
    Term.INSTANCES_ACCESSED: "DICOM Instances Accessed",
    Term.INSTANCES_TRANSFERRED: "DICOM Instances Transferred",
    Term.STUDY_DELETED: "DICOM Study Deleted",
    Term.EXPORT: "Export",
    Term.PATIENT_RECORD: "Patient Record",
    Term.QUERY: "Query",
    Term.SECURITY_ALERT: "Security Alert",
    Term.USER_AUTHENTICATION: "User Authentication",
    Term.APPLICATION_START: "Application Start",
    Term.LOGIN: "Login",
    Term.LOGOUT: "Logout",
    Term.EMERGENCY_STARTED: "Emergency Override Started",
    Term.EMERGENCY_STOPPED: "Emergency Override Stopped",
    Term.SECURITY_CONFIGURATION: "Security Configuration",
    Term.RESTRICTED_FUNCTION: "Use of Restricted Function",
    Term.OBJECT_SECURITY: "Object Security Attributes Changed",
    Term.SECURITY_ROLES: "Security Roles Changed",
    Term.APPLICATION: "Application",
    Term.LAUNCHER: "Application Launcher",
    Term.DESTINATION: "Destination Role ID",
    Term.SOURCE: "Source Role ID",
    Term.STUDY_UID: "Study Instance UID",
    Term.NODE_ID: "Node ID",
}


@dataclass(frozen=True, kw_only=True)
class Told:
    """How an event is told. action: C(reate), R(ead), U(pdate), D(elete), E(xecute). failed: it was not allowed.

    breaks_glass: the purpose was to override a right (BTG of HL7's ActReason).
    """

    event: Term
    action: str
    kind: Term | None = None
    failed: bool = False
    breaks_glass: bool = False


@dataclass(frozen=True, kw_only=True)
class Source:
    """Who tells: our AE title, and the machine's name."""

    name: str
    host: str


_ALERT = Term.SECURITY_ALERT
TOLD = {
    AuditEvent.ASKED: Told(event=Term.QUERY, action="E"),
    AuditEvent.CASE_SHOWN: Told(event=Term.INSTANCES_ACCESSED, action="R"),
    AuditEvent.LISTED: Told(event=Term.QUERY, action="E"),
    AuditEvent.OPENED: Told(event=Term.INSTANCES_ACCESSED, action="R"),
    AuditEvent.STORED: Told(event=Term.INSTANCES_TRANSFERRED, action="C"),
    AuditEvent.DELETED: Told(event=Term.STUDY_DELETED, action="D"),
    AuditEvent.LINK_OPENED: Told(event=Term.USER_AUTHENTICATION, action="E", kind=Term.LOGIN),
    AuditEvent.SIGNED_IN: Told(event=Term.USER_AUTHENTICATION, action="E", kind=Term.LOGIN),
    AuditEvent.SIGN_IN_FAILED: Told(event=Term.USER_AUTHENTICATION, action="E", kind=Term.LOGIN, failed=True),
    AuditEvent.SIGNED_OUT: Told(event=Term.USER_AUTHENTICATION, action="E", kind=Term.LOGOUT),
    AuditEvent.LOCKED_OUT: Told(event=_ALERT, action="E", kind=Term.RESTRICTED_FUNCTION, failed=True),
    AuditEvent.ACCOUNT_ADDED: Told(event=_ALERT, action="E", kind=Term.SECURITY_ROLES),
    AuditEvent.ACCOUNT_CHANGED: Told(event=_ALERT, action="E", kind=Term.SECURITY_ROLES),
    AuditEvent.ACCOUNT_REMOVED: Told(event=_ALERT, action="E", kind=Term.SECURITY_ROLES),
    AuditEvent.RESOLVED: Told(event=Term.QUERY, action="E"),
    AuditEvent.REFUSED: Told(event=_ALERT, action="E", kind=Term.RESTRICTED_FUNCTION, failed=True),
    AuditEvent.TOKEN_CREATED: Told(event=_ALERT, action="E", kind=Term.SECURITY_ROLES),
    AuditEvent.TOKEN_REVOKED: Told(event=_ALERT, action="E", kind=Term.SECURITY_ROLES),
    AuditEvent.ERASED: Told(event=Term.STUDY_DELETED, action="D"),
    AuditEvent.MERGED: Told(event=Term.PATIENT_RECORD, action="U"),
    AuditEvent.AUDIT_READ: Told(event=Term.AUDIT_LOG_USED, action="R"),
    AuditEvent.AUDIT_RETIRED: Told(event=Term.AUDIT_LOG_USED, action="R"),
    AuditEvent.AUDIT_SKIPPED: Told(event=Term.AUDIT_LOG_USED, action="R"),
    AuditEvent.PEER_ADDED: Told(event=_ALERT, action="E", kind=Term.SECURITY_CONFIGURATION),
    AuditEvent.PEER_REMOVED: Told(event=_ALERT, action="E", kind=Term.SECURITY_CONFIGURATION),
    AuditEvent.EMERGENCY_STARTED: Told(event=_ALERT, action="E", kind=Term.EMERGENCY_STARTED, breaks_glass=True),
    AuditEvent.EMERGENCY_STOPPED: Told(event=_ALERT, action="E", kind=Term.EMERGENCY_STOPPED, breaks_glass=True),
    AuditEvent.WITHHELD: Told(event=_ALERT, action="E", kind=Term.OBJECT_SECURITY),
    AuditEvent.SHOWN_AGAIN: Told(event=_ALERT, action="E", kind=Term.OBJECT_SECURITY),
    AuditEvent.EXPORTED: Told(event=Term.EXPORT, action="R"),
    AuditEvent.STARTED: Told(event=Term.APPLICATION_ACTIVITY, action="E", kind=Term.APPLICATION_START),
}
