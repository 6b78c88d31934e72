"""The audit trail for other systems: DICOM audit messages by syslog over TLS, FHIR AuditEvents by HTTP."""

from radir_pacs.audit_feed.feed import AuditFeeds, receivers_of

__all__ = ["AuditFeeds", "receivers_of"]
