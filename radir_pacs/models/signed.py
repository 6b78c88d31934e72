"""Who decides something about models, and why: what a command and a page ask for before it is written down."""

from __future__ import annotations

from radir_pacs.errors import BadInput

REASON_CHARACTERS = 1000
_RULE = "rule:"


def signed_by(given: str, default: str) -> str:
    """The name, else the default. Raises BadInput for a name of the software's own rules."""
    by = given.strip() or default
    if by.startswith(_RULE):
        raise BadInput(f"names that begin with {_RULE} are for the software's own rules")
    return by


def signed(given: str, default: str, reason: str, evidence: str = "") -> dict[str, str]:
    """``by``, ``reason`` and ``evidence``. Raises BadInput without a reason."""
    reason, evidence = reason.strip(), evidence.strip()
    if not reason:
        raise BadInput("say why, in a few words")
    if max(len(reason), len(evidence)) > REASON_CHARACTERS:
        raise BadInput(f"a reason has at most {REASON_CHARACTERS} characters")
    return {"by": signed_by(given, default), "reason": reason, "evidence": evidence}
