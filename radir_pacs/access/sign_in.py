"""Signing in with a name and a password.

Every attempt counts before it is made, by name and address and by address alone; each one beyond the free ones has to
wait twice as long as the one before, a quarter of an hour at most. So nobody guesses, and a stranger's attempts at
another address never keep anybody out. Names that are typed are kept as keyed hashes: people type passwords there.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
from dataclasses import replace

from radir_pacs.access import passwords
from radir_pacs.access.keys import installation_key
from radir_pacs.callers import AuditEvent, Caller, Role
from radir_pacs.catalogue import AccountToSignIn, Catalogue
from radir_pacs.config import Settings
from radir_pacs.errors import NotReady, SignInFailed, StorageFailed, TooManyRequests

NAME_CHARACTERS = 64


def by_password(name: str, password: str, address: str, catalogue: Catalogue, settings: Settings) -> AccountToSignIn:
    """The account. Raises SignInFailed, which does not tell what was wrong, and TooManyRequests before any look at it.

    What happens and the time it takes are the same for a name that there is not, a disabled account and a wrong
    password. The caller records a success. ``password_hash`` of the account is what the password fitted: whoever acts
    on that says so (`Sessions.begin`, `Accounts.set_password`), as an administrator may give another one meanwhile.
    """
    name = name.strip()[:NAME_CHARACTERS]
    who, where = hash_of_name(name, settings), _network(address)
    wait_s, next_waits = catalogue.sign_ins.try_once(who, where)
    if wait_s:
        raise TooManyRequests("too many attempts from this address: try again later", wait_s=wait_s)
    try:
        found = catalogue.accounts.to_sign_in(name)
        fits = passwords.fits(password, found.password_hash if found is not None else None)
    except (NotReady, StorageFailed):
        with contextlib.suppress(StorageFailed):  # then it counts
            catalogue.sign_ins.take_back(who, where)
        raise
    if found is None or not fits or found.disabled:
        by = Caller(name=found.name if found else "", role=found.role if found else Role.NOBODY, address=address)
        catalogue.audit.note(AuditEvent.LOCKED_OUT if next_waits else AuditEvent.SIGN_IN_FAILED, by)
        raise SignInFailed
    catalogue.sign_ins.succeeded(who, where)
    if found.password_hash is not None and passwords.is_outdated(found.password_hash):
        hashed = passwords.hashed(password)
        if catalogue.accounts.hash_again(found, hashed):
            return replace(found, password_hash=hashed)
    return found


def hash_of_name(name: str, settings: Settings) -> str:
    """By what attempts as somebody are counted."""
    key = key_of_sessions(settings)
    return hmac.new(key, b"name " + name.strip().lower().encode(), hashlib.sha256).hexdigest()


def key_of_sessions(settings: Settings) -> bytes:
    return installation_key(settings.home / "session.key", "everybody signs in again")


def _network(address: str) -> str:
    """Of IPv6 the first 64 bits: whoever has one address there has all of them."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
