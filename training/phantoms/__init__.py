"""A synthetic hospital: parametric chests imaged by CT and radiograph, reported, and with the truth known."""

from .canvas import SIZES, Size
from .findings import CATALOGUE, PhantomFinding
from .sample import PhantomStudy, sample

__all__ = ["CATALOGUE", "SIZES", "PhantomFinding", "PhantomStudy", "Size", "sample"]
