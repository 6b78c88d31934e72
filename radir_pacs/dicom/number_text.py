"""Numbers written as text: DS and IS (PS3.5 6.2), and what senders write instead."""

from __future__ import annotations

import re

LARGEST = 1e30  # no image needs a larger number; single precision, in which pixels are computed, ends at 3e38
_LONGEST = 64
_PLAIN = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\Z")
_COMMA = re.compile(r"([+-]?[0-9]*),([0-9]+(?:[eE][+-]?[0-9]{1,3})?)\Z")
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}\Z")


def number_in(vr: str, text: str) -> float | int | str | None:
    """The number that ``text`` is, None when it is empty, else the text itself, shortened.

    A decimal comma is read where it can be nothing else: 2,5 and 0,125, but not 1,250, which may be a thousand. IS
    and the binary VRs of whole numbers take 7.0 for 7. Units, words, and numbers beyond ``LARGEST`` stay text.
    """
    text = text.strip(" \0")
    if not text:
        return None
    comma = _COMMA.match(text)
    plain = f"{comma[1]}.{comma[2]}" if comma and not _THOUSANDS.match(text) else text
    if len(plain) > _LONGEST or not _PLAIN.match(plain):
        return text[:_LONGEST]
    number = float(plain)
    if not abs(number) < LARGEST:
        return text[:_LONGEST]
    if vr in _DECIMAL:
        return number
    if not number.is_integer() or abs(number) >= 2**53:
        return text[:_LONGEST]
    return int(number)


_DECIMAL = frozenset({"DS", "FD", "FL"})
