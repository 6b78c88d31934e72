"""What `radir doctor` looks at: each check gives findings, and raises nothing that an installation may do to it."""

from radir_pacs.cli.diagnosis.doors import home_folder, plain_dicom
from radir_pacs.cli.diagnosis.machine import MACHINE
from radir_pacs.cli.diagnosis.results import Check, CheckResult, Level
from radir_pacs.cli.diagnosis.services import SERVICES

CHECKS: tuple[Check, ...] = (*MACHINE, home_folder, plain_dicom, *SERVICES)

__all__ = ["CHECKS", "Check", "CheckResult", "Level"]
