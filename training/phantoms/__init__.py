"""A synthetic hospital: parametric chests with CT, radiographs, reports and known true findings."""

from .canvas import SIZES, Size
from .findings import CATALOGUE, PhantomFinding
from .sample import PhantomStudy, sample

__all__ = ["CATALOGUE", "SIZES", "PhantomFinding", "PhantomStudy", "Size", "sample"]
