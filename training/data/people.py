"""Patients as numbers, and the patients that a model was trained on, as a filter."""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .studies import F16, I64


def patient_codes(names: Sequence[str], images: F16) -> I64:
    """Numbers in place of names, int64 [n], in a random order that does not change when other patients join.

    Patients who share an image are one: public collections list some people twice, and a model must not be judged by
    whether it finds the identical picture.
    """
    one_of: dict[str, str] = {}

    def leader(name: str) -> str:
        while one_of.setdefault(name, name) != name:
            name = one_of[name]
        return name

    owner: dict[bytes, str] = {}
    for name, image in zip(names, images, strict=True):
        other = owner.setdefault(hashlib.sha256(image.tobytes()).digest(), name)
        one_of[leader(name)] = leader(other)
    people = [leader(name) for name in names]
    order = sorted(set(people), key=lambda name: hashlib.sha256(name.encode()).digest())
    number = {name: code for code, name in enumerate(order)}
    return np.array([number[name] for name in people], np.int64)


KNOWN_PATIENTS = "known_patients"  # in a manifest's training: a list, one filter per training of the chain
_HASHES = 7  # 1 % of strangers are taken for known; fewer would reveal more about who was in the training
_MOST_BITS = 1 << 21  # 256 KiB, full at 218,000 patients; beyond them more strangers are taken for known


@dataclass(frozen=True, kw_only=True)
class KnownPatients:
    """The patients of a training as a Bloom filter (Bloom 1970), which goes into the manifest of the bundle.

    A known patient is always recognised; a stranger is taken for one in a share of ``false_positives``. No name or
    Patient ID can be read from it. What it reveals: the rough number of patients, which the manifest states anyway, and
    to somebody who holds the bundle and already has a Patient ID (with its issuer), whether that patient may have been
    in the training. The answer yes is deniable on purpose: whoever tries all 10 million IDs of 7 digits against a
    filter of 5,000 patients gets 100,000 false ones beside them. The salt is a hash of all the names together, so
    filters of two trainings cannot be laid over one another, and the same training gives the same filter.

    Patients are recognised by the name that their folder gives them (issuer and Patient ID in DICOM, the table's
    column for pictures), so a folder under other pseudonyms is not recognised.
    """

    salt: str
    bits: bytes

    @classmethod
    def of(cls, names: Sequence[str]) -> KnownPatients:
        people = sorted({_normal(name) for name in names})
        salt = hashlib.sha256("\0".join(people).encode()).hexdigest()[:32]
        wanted = math.ceil(len(people) * _HASHES / math.log(2) / 8) * 8
        bits = bytearray(min(max(64, wanted), _MOST_BITS) // 8)
        for name in people:
            for place in _places(salt, name, 8 * len(bits)):
                bits[place // 8] |= 1 << place % 8
        return cls(salt=salt, bits=bytes(bits))

    @classmethod
    def from_json(cls, told: object) -> KnownPatients | None:
        """The filter that ``as_json`` wrote; None where a manifest holds something else."""
        if not isinstance(told, Mapping) or not isinstance(told.get("salt"), str):
            return None
        try:
            bits = base64.b64decode(told.get("bits", ""), validate=True)
        except (TypeError, ValueError, binascii.Error):
            return None
        return cls(salt=told["salt"], bits=bits) if bits else None

    def as_json(self) -> dict[str, Any]:
        return {"salt": self.salt, "bits": base64.b64encode(self.bits).decode()}

    def __contains__(self, name: str) -> bool:
        places = _places(self.salt, _normal(name), 8 * len(self.bits))
        return all(self.bits[place // 8] >> place % 8 & 1 for place in places)

    @property
    def false_positives(self) -> float:
        """The share of strangers that the filter takes for known, by how full it is."""
        ones = sum(byte.bit_count() for byte in self.bits)
        return float((ones / (8 * len(self.bits))) ** _HASHES)


def _normal(name: str) -> str:
    return name.strip()


def _places(salt: str, name: str, bits: int) -> Iterator[int]:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), key=salt.encode()[:64], digest_size=8 * _HASHES)
    words = digest.digest()
    return (int.from_bytes(words[8 * i : 8 * i + 8], "big") % bits for i in range(_HASHES))
