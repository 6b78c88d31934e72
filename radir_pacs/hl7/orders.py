"""Orders: which numbers and which Study Instance UID an order names (HL7 2.9 chapter 4; IHE RAD TF-2, RAD-4)."""

from __future__ import annotations

from dataclasses import dataclass, field

from radir_pacs.catalogue import Deed, OrderLink
from radir_pacs.dicom.uids import is_valid_uid

from .message import Message, Segment

_STUDY_UID = frozenset({("110180", "DCM"), ("113014", "DCM"), ("0020000D", "DCM")})  # OBX-3
_ENDS = frozenset({"CA", "DC", "OC", "OD", "CR", "DR"})  # ORC-1 (table 0119): cancelled, discontinued
_MOST_CHARACTERS = 200


@dataclass(kw_only=True)
class Order:
    """The segments of one order, or of one report."""

    patient: Segment | None = None
    orc: Segment | None = None
    obr: Segment | None = None
    ipc: list[Segment] = field(default_factory=list)
    zds: list[Segment] = field(default_factory=list)
    obx: list[Segment] = field(default_factory=list)
    number: int = 1  # of its OBR in the message

    @property
    def numbers(self) -> tuple[str, ...]:
        """Accession and order numbers, the surest first."""
        found = [ipc.text(1) for ipc in self.ipc]
        if self.obr is not None:
            found += [self.obr.text(18), self.obr.text(3)]
        if self.orc is not None:
            found.append(self.orc.text(3))
        if self.obr is not None:
            found.append(self.obr.text(2))
        if self.orc is not None:
            found.append(self.orc.text(2))
        return tuple(dict.fromkeys(number[:_MOST_CHARACTERS] for number in found if number))

    @property
    def accession(self) -> str:
        """The study's number by IPC-1 or OBR-18; empty where neither says it."""
        said = [*(ipc.text(1) for ipc in self.ipc), self.obr.text(18) if self.obr is not None else ""]
        return next(filter(None, said), "")

    @property
    def service(self) -> str:
        """What was ordered, in words (OBR-4)."""
        return (self.obr.text(4, 2) or self.obr.text(4, 5) or self.obr.text(4)) if self.obr is not None else ""

    @property
    def study_uid(self) -> str | None:
        """By IPC-3, ZDS-1 or an OBX; the first that is a UID."""
        said = [ipc.text(3) for ipc in self.ipc] + [zds.text(1) for zds in self.zds]
        said += [obx.text(5, part) for obx in self.obx if names_study(obx) for part in (1, 2)]  # a text; a HD
        return next((uid for uid in said if is_valid_uid(uid)), None)


def names_study(obx: Segment) -> bool:
    return (obx.text(3, 1).replace(",", "").upper(), obx.text(3, 3).upper()) in _STUDY_UID


def orders_of(message: Message) -> list[Order]:
    """The message's orders: each ORC, or OBR without one, begins the next; what stands alone belongs to all."""
    orders: list[Order] = []
    patient, orc = None, None
    for segment in message.segments:
        match segment.name:
            case "PID":
                patient = segment
            case "ORC":
                orc = segment
                orders.append(Order(patient=patient, orc=orc, number=len(orders) + 1))
            case "OBR":
                if not orders or orders[-1].obr is not None or orders[-1].obx:
                    orders.append(Order(patient=patient, number=len(orders) + 1))
                orders[-1].obr = segment
            case "IPC" | "ZDS" | "OBX":
                if not orders:
                    orders.append(Order(patient=patient))
                getattr(orders[-1], segment.name.lower()).append(segment)
    named = {order.study_uid for order in orders} - {None}
    if len(named) == 1:  # ZDS stands once, behind the last order
        zds = [segment for order in orders for segment in order.zds]
        for order in orders:
            order.zds = order.zds or zds
    return orders


def deeds_of_order(message: Message) -> list[Deed]:
    """The link of each order that names both its numbers and its study."""
    deeds: list[Deed] = []
    for order in orders_of(message):
        if order.study_uid and order.numbers:
            ended = order.orc is not None and order.orc.text(1) in _ENDS
            deeds.append(OrderLink(numbers=order.numbers, study_uid=order.study_uid, ended=ended))
    return deeds
