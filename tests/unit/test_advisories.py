"""`make audit`: what is known of the pinned versions, and that silence of the service never reads as good news."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.services import ROOT

CLEAN: dict[str, Any] = {"name": "flask", "version": "3.0.0", "vulns": []}
BAD = CLEAN | {"vulns": [{"id": "PYSEC-1", "fix_versions": ["3.0.1"], "description": ""}]}
SKIPPED = {"name": "torch", "skip_reason": "not found"}


def audited(given: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "audit.py"], input=given, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        ([CLEAN], 0, "1 packages, 0 advisories"),
        ([CLEAN, BAD], 1, "flask 3.0.0: PYSEC-1, fixed in 3.0.1"),
        ([CLEAN, SKIPPED], 2, "1 of 2 packages"),
        ([BAD, SKIPPED], 1, "PYSEC-1"),
        ([], 2, "nothing is known"),
    ],
)
def test_what_the_service_knows(found: list[dict[str, Any]], code: int, said: str) -> None:
    status, out, err = audited(json.dumps({"dependencies": found, "fixes": []}))
    assert status == code and said in out + err


@pytest.mark.parametrize("given", ["", "Traceback", "{}"])
def test_a_service_that_is_away(given: str) -> None:
    status, out, err = audited(given)
    assert (status, out) == (2, "") and "cannot be reached" in err and err.count("\n") == 1


def test_the_hosted_check_asks_and_the_local_one_does_not() -> None:
    """`make test` needs nothing of the network but registries."""
    assert "make audit" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    makefile = (ROOT / "Makefile").read_text()
    assert "audit" not in makefile.partition("\ntest:")[2].partition("\n\n")[0]
