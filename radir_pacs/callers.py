"""Who calls, in which role, and the events that are recorded of it (DICOM PS3.15 A.5 has a message for each)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a caller may do as a whole; ``radir_pacs.web.route_rights`` says which role reaches which route."""

    ADMINISTRATOR = "administrator"  # everything
    RADIOLOGIST = "radiologist"  # reads, asks, judges, reports; stores and deletes nothing else
    SERVICE = "service"  # another system: sends, deletes and reads studies, opens the sidebar for its readers
    SIDEBAR = "sidebar"  # a browser with a sidebar's token: one study, and the cases like it
    COMMAND = "command"  # somebody who runs commands on this machine
    NOBODY = "nobody"  # whose token is none of ours


class AuditEvent(StrEnum):
    """What happened, and the message of PS3.15 A.5.3 that it corresponds to."""

    ASKED = "ASKED"  # Query: the cases similar to this study
    CASE_SHOWN = "CASE_SHOWN"  # DICOM Instances Accessed: this study was in the answer to such a question
    LISTED = "LISTED"  # Query: this study was in the answer to a search for studies, series or instances
    OPENED = "OPENED"  # DICOM Instances Accessed: headers, pixels, pictures, state or reports of this study
    STORED = "STORED"  # DICOM Instances Transferred: something was stored in this study, by HTTP
    DELETED = "DELETED"  # DICOM Study Deleted, in whole or in part
    LINK_OPENED = "LINK_OPENED"  # User Authentication: a sidebar's token was made for this study
    SIGNED_IN = "SIGNED_IN"  # User Authentication: somebody gave a token to the administrator's pages
    RESOLVED = "RESOLVED"  # Query: the study behind an anonymous reference
    REFUSED = "REFUSED"  # Security Alert: no token, a wrong one, or one whose role may not do this
    TOKEN_CREATED = "TOKEN_CREATED"  # Security Alert: Security Roles Changed
    TOKEN_REVOKED = "TOKEN_REVOKED"
    STARTED = "STARTED"  # Application Activity: the web service begins to serve


@dataclass(frozen=True, kw_only=True)
class Caller:
    """``name``: of the token, of the reader for whom the PACS opened a sidebar, or of the user who runs a command.

    address: from where, as far as known.
    """

    name: str
    role: Role
    address: str = ""
