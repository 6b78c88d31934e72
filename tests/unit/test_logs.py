"""Logs: one JSON object a line, and nothing that an exception quotes."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from radir_pacs.logs import JsonLines, trace_of

PATIENT = "DOE^JANE"


def line(logger: logging.Logger, caplog: pytest.LogCaptureFixture) -> dict[str, object]:
    (record,) = caplog.records
    text = JsonLines("listener").format(record)
    assert "\n" not in text and PATIENT not in text
    found: dict[str, object] = json.loads(text)
    return found


def test_a_line_says_when_who_and_what(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("radir_pacs.test")
    with caplog.at_level("INFO"):
        logger.info("job ends", extra={"job": 7})
    found = line(logger, caplog)
    assert (found["level"], found["process"], found["message"], found["job"]) == ("INFO", "listener", "job ends", 7)
    assert str(found["at"]).endswith("+00:00")


def test_a_study_has_the_trace_that_its_uid_gives(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        logging.getLogger("radir_pacs.test").info("study arrives", extra={"study_uid": "1.2.840.99999.1"})
    command = "printf %s 1.2.840.99999.1 | sha256sum | cut -c1-16"  # as docs/how-to/run-roles.md says
    said = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout.strip()
    assert line(logging.getLogger(), caplog)["trace"] == said == trace_of("1.2.840.99999.1") != ""


def test_an_exception_is_named_and_placed_but_not_quoted(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("radir_pacs.test")
    try:
        raise ValueError(f"{PATIENT!r} is not a number")
    except ValueError:
        logger.exception("store failed")
    found = line(logger, caplog)
    assert found["exception"] == "ValueError"
    assert str(found["where"]).startswith(f"['{__name__}:")


@pytest.mark.parametrize(
    "fails",
    [
        pytest.param("raise ValueError(name)", id="main thread"),
        pytest.param("threading.Thread(target=int, args=[name]).start()", id="another thread"),
        pytest.param("logging.getLogger('pynetdicom.association').exception(ValueError(name))", id="pynetdicom"),
        pytest.param("logging.getLogger('pydicom').error(name)", id="pydicom"),
        pytest.param("warnings.warn(name)", id="warning"),
    ],
)
def test_what_goes_wrong_in_a_process_does_not_print_a_patient(fails: str) -> None:
    program = f"""
import logging, threading, warnings
from radir_pacs.config import Settings
from radir_pacs.logs import set_up_logging
set_up_logging(Settings(), "test")
name = "{PATIENT}"
logging.getLogger("radir_pacs").info("began")
{fails}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert PATIENT not in done.stderr + done.stdout
    lines = [json.loads(text) for text in done.stderr.splitlines()]
    assert lines[0]["message"] == "began"
    assert ("uncaught" in [shown["message"] for shown in lines]) == fails.startswith(("raise", "threading"))
