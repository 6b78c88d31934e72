"""Structured logs: one JSON object per line, ids only, nothing about a patient."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import threading
import warnings
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from radir_pacs.config import Settings

_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_FILE_BYTES = 20 << 20
_QUIET = ("waitress", "celery", "kombu", "psycopg.pool", "urllib3")
_OF_COMMANDS = ("pymilvus", "grpc", "radir_pacs.catalogue.watch")
# These libraries read patients' data sets and log the text of exceptions; we log failures ourselves, by ids.
_SILENT = ("pynetdicom", "pydicom", "highdicom")


def trace_of(study_uid: str) -> str:
    """The id that a study has in the logs of all roles, from its C-STORE to an answer about it.

    It is made from the UID alone, so no process has to hand it to another, and whoever has only the logs cannot tell
    which study it was: ``printf %s UID | sha256sum | cut -c1-16``.
    """
    return hashlib.sha256(study_uid.encode("utf-8", "replace")).hexdigest()[:16]


class JsonLines(logging.Formatter):
    """Time, level, process, logger, message, and what the caller gave as ``extra``; with a study, also its trace."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        shown: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        shown |= {key: value for key, value in record.__dict__.items() if key not in _PLAIN}
        if isinstance(study_uid := shown.get("study_uid"), str) and study_uid:
            shown["trace"] = trace_of(study_uid)
        if record.exc_info and record.exc_info[0]:
            # Where it happened, not its text: an exception may quote a patient.
            frames = []
            trace = record.exc_info[2]
            while trace is not None:
                frames.append(f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}")
                trace = trace.tb_next
            shown |= {"exception": record.exc_info[0].__name__, "where": frames[-6:]}
        return json.dumps(shown, default=str)


def set_up_logging(settings: Settings, process: str, *, file: Path | None = None) -> None:
    """Log to standard error, which the supervisor keeps in a file; its own lines go to ``file`` as well.

    Libraries log only warnings and errors.

    An uncaught exception, in any thread, is logged by the same rules instead of being printed with its text.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(RotatingFileHandler(file, maxBytes=_FILE_BYTES, backupCount=1, delay=True))
    for handler in handlers:
        handler.setFormatter(JsonLines(process))
    logging.basicConfig(level=settings.log_level, handlers=handlers, force=True)
    warnings.simplefilter("ignore")  # pydicom's warnings quote odd values
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in _SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    sys.excepthook = lambda kind, error, trace: _uncaught(error)
    threading.excepthook = lambda failure: _uncaught(failure.exc_value)


def keep_quiet() -> None:
    """For a command, which says itself what failed: complaints of libraries, and of what watches the database, are not
    printed beside that, unless logging is set up."""
    for name in (*_QUIET, *_SILENT, *_OF_COMMANDS):
        logging.getLogger(name).addHandler(logging.NullHandler())


def _uncaught(error: BaseException | None) -> None:
    if error is not None and not isinstance(error, SystemExit):
        logging.getLogger(__name__).critical("uncaught", exc_info=error)
