"""What a DICOMweb service must do, as cases that run against any service root.

Restated from PS3.18 and from what public conformance suites and Orthanc's own tests look at, in our own words. A case
is a function that raises when the service does otherwise. Where a suite asks for what the standard does not have
(``/patients``, ``/instances/{uid}``) there is no case.
"""

from . import metadata, rendering, retrieving, searching, storing, whole
from .service import CASES, Check, Service, written

__all__ = [
    "CASES",
    "Check",
    "Service",
    "metadata",
    "rendering",
    "retrieving",
    "searching",
    "storing",
    "whole",
    "written",
]
