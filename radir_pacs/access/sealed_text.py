"""Short texts that others carry for us and must neither read nor change, such as the mark of a page in a URL.

AES-256-GCM under a key derived (HKDF, RFC 5869) from that of the installation's references.
"""

from __future__ import annotations

import secrets
from functools import cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from radir_pacs.access.references import key_of_references
from radir_pacs.config import Settings

_NONCE_BYTES = 12


def seal(text: bytes, settings: Settings) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + _cipher(settings).encrypt(nonce, text, None)


def unseal(sealed: bytes, settings: Settings) -> bytes:
    """Raises ValueError for what `seal` did not make."""
    try:
        return _cipher(settings).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
    except InvalidTag:
        raise ValueError("not sealed here") from None


def _cipher(settings: Settings) -> AESGCM:
    return _cipher_under(key_of_references(settings))


@cache
def _cipher_under(key: bytes) -> AESGCM:
    """Kept, since to derive a key takes longer than to seal a text, and every page of an answer has a mark."""
    return AESGCM(HKDF(hashes.SHA256(), 32, None, b"radir sealed text").derive(key))
