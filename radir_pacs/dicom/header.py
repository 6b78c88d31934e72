"""Bounded reading of a header. The frozen dataclass is in radir_pacs.types: the catalogue stores it."""

from radir_pacs.types import InstanceHeader

__all__ = ["InstanceHeader"]
