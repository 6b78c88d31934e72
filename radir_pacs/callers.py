"""Who calls, in which role, and the events that are recorded of it (DICOM PS3.15 A.5 has a message for each)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from radir_pacs.scopes import Scope, Withheld


class Role(StrEnum):
    """What a caller may do as a whole; ``radir_pacs.web.route_rights`` says which role reaches which route."""

    ADMINISTRATOR = "administrator"  # everything
    RADIOLOGIST = "radiologist"  # reads, asks, judges, reports; stores and deletes nothing else
    RESEARCHER = "researcher"  # asks for similar cases; sees pseudonyms, and of the images only what was compared
    SERVICE = "service"  # another system: sends, deletes and reads studies, opens the sidebar for its readers
    SIDEBAR = "sidebar"  # a browser with a sidebar's token: one study, and the cases like it
    PEER = "peer"  # a system that sends by DICOM or HL7: its AE title, or its sending application
    COMMAND = "command"  # somebody who runs commands on this machine
    NOBODY = "nobody"  # whose token is none of ours


class AuditEvent(StrEnum):
    """What happened, and the message of PS3.15 A.5.3 that it corresponds to."""

    ASKED = "ASKED"  # Query: the cases similar to this study
    CASE_SHOWN = "CASE_SHOWN"  # DICOM Instances Accessed: this study was in the answer to such a question
    LISTED = "LISTED"  # Query: this study was in the answer to a search for studies, series or instances
    OPENED = "OPENED"  # DICOM Instances Accessed: headers, pixels, pictures, state or reports of this study
    STORED = "STORED"  # DICOM Instances Transferred: something was stored in this study, by whatever way
    DELETED = "DELETED"  # DICOM Study Deleted, in whole or in part
    LINK_OPENED = "LINK_OPENED"  # User Authentication: a sidebar's token was made for this study
    SIGNED_IN = "SIGNED_IN"  # User Authentication: a session in a browser began, as are the next two
    SIGN_IN_FAILED = "SIGN_IN_FAILED"  # of an account: a wrong password, or a provider's word that is not enough
    SIGNED_OUT = "SIGNED_OUT"
    LOCKED_OUT = "LOCKED_OUT"  # Security Alert: attempts from an address have to wait
    RESOLVED = "RESOLVED"  # Query: the study behind an anonymous reference
    REFUSED = "REFUSED"  # Security Alert: a wrong token, or one whose role may not do this
    TOKEN_CREATED = "TOKEN_CREATED"  # Security Alert: Security Roles Changed
    TOKEN_REVOKED = "TOKEN_REVOKED"
    ACCOUNT_ADDED = "ACCOUNT_ADDED"  # Security Alert: Security Roles Changed, as are the next two
    ACCOUNT_CHANGED = "ACCOUNT_CHANGED"  # its role, scope or password, or whether it may sign in
    ACCOUNT_REMOVED = "ACCOUNT_REMOVED"
    ERASED = "ERASED"  # DICOM Study Deleted: nothing of the study, or of the patient, is kept
    MERGED = "MERGED"  # Patient Record: one patient became another, or was given other demographics
    AUDIT_READ = "AUDIT_READ"  # Audit Log Used
    AUDIT_RETIRED = "AUDIT_RETIRED"  # Audit Log Used: events were exported, and left the table
    AUDIT_SKIPPED = "AUDIT_SKIPPED"  # Audit Log Used: a receiver refused an event for good, and lacks it
    PEER_ADDED = "PEER_ADDED"  # Security Alert: Security Configuration, as is the next one
    PEER_REMOVED = "PEER_REMOVED"
    EMERGENCY_STARTED = "EMERGENCY_STARTED"  # Security Alert: Emergency Override Started: a patient, out of scope
    EMERGENCY_STOPPED = "EMERGENCY_STOPPED"  # Security Alert: Emergency Override Stopped: by time or by somebody
    WITHHELD = "WITHHELD"  # Security Alert: Object Security Attributes Changed, as is the next one
    SHOWN_AGAIN = "SHOWN_AGAIN"
    EXPORTED = "EXPORTED"  # Export: this study is in a de-identified data set that was written to a folder
    STARTED = "STARTED"  # Application Activity: the web service begins to serve


@dataclass(frozen=True, kw_only=True)
class Caller:
    """``name``: of the token, of the reader for whom the PACS opened a sidebar, or of the user who runs a command.

    address: from where, as far as known. scope: which studies it may see. names: rows of similar cases name patients.
    """

    name: str
    role: Role
    address: str = ""
    scope: Scope = field(default_factory=Scope)
    names: bool = True

    @property
    def knows_persons(self) -> bool:
        """Whether it may learn who a patient is, by whatever route."""
        return self.role not in _KNOW_NOBODY

    @property
    def reads_figures(self) -> bool:
        """Whether it may learn the figures of the whole archive."""
        return self.role in _READ_FIGURES and not self.scope.confines


_READ_FIGURES = frozenset({Role.ADMINISTRATOR, Role.SERVICE})
_KNOW_NOBODY = frozenset({Role.RESEARCHER, Role.NOBODY})
_SEES = {
    Role.ADMINISTRATOR: Withheld.FROM_ALL,
    Role.COMMAND: Withheld.FROM_ALL,
    Role.RESEARCHER: Withheld.FROM_NOBODY,
}


def sees(role: Role) -> Withheld:
    """The highest degree of withholding of which the role still sees studies."""
    return _SEES.get(role, Withheld.FROM_RESEARCH)
