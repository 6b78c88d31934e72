"""What `radir doctor` looks at: each check gives findings, and raises nothing that an installation may do to it."""

from radir_pacs.cli.diagnosis.machine import MACHINE
from radir_pacs.cli.diagnosis.results import Check, CheckResult, Level
from radir_pacs.cli.diagnosis.services import SERVICES

CHECKS: tuple[Check, ...] = (*MACHINE, *SERVICES)

__all__ = ["CHECKS", "Check", "CheckResult", "Level"]
