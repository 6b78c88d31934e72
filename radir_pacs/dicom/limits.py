"""Limits on what one DICOM object may cost."""

from __future__ import annotations

from dataclasses import dataclass

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True, kw_only=True)
class ReadLimits:
    """Bounds on one header. An object beyond one is refused; ``binary_bytes`` and ``text_bytes`` only drop a value."""

    depth: int = 32  # sequences within sequences; a deep SR content tree has about 12
    elements: int = 50_000  # data elements and items of all levels
    binary_bytes: int = KIB  # a longer binary value is left out
    text_bytes: int = 64 * KIB  # a longer text value is left out
    kept_bytes: int = 4 * MIB  # all values together
    fragments: int = 1_000_000  # of encapsulated pixel data
    inflated_bytes: int = 64 * MIB  # what a deflated object may grow to


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """Bounds of one pixel decode in the child process."""

    pixel_bytes: int = GIB  # rows x columns x frames x samples x bytes, as declared
    memory_bytes: int = 4 * GIB  # address space of the child (RLIMIT_AS)
    cpu_s: int = 60  # processor time per file (RLIMIT_CPU)
    wall_s: float = 60.0  # wall-clock time per file; then the child is killed
