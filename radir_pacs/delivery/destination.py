"""A DICOM peer that objects are sent to."""

from __future__ import annotations

import re
from dataclasses import dataclass

from radir_pacs.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Destination:
    """A DICOM peer, written AET@host:port."""

    ae_title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Destination:
        match = re.fullmatch(r"([^@\\]{1,16})@\[?([^@\]]+?)\]?:(\d{1,5})", text.strip())
        if not match or not 0 < int(match[3]) < 65536:
            raise BadInput(f"{text!r} is not a destination; write AET@host:port")
        return cls(ae_title=match[1], host=match[2], port=int(match[3]))

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"
