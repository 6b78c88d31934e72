"""``radir save``: keeps the report of a study's similar cases here and sends it to the PACS, as the sidebar does."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import requests

from radir_pacs import config
from radir_pacs.cli.output import errors, out, print_json
from radir_pacs.cli.state import must_run, read_state
from radir_pacs.cli.web_service import session_of
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput, RadirError
from radir_pacs.types import JobState

_ANSWER_S = 120.0
_LOOK_S = 0.5


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "save", help="save the report of similar cases to the PACS, and wait until it is there"
    )
    parser.add_argument("study", help="Study Instance UID")
    parser.add_argument("--region", default="chest", help='for example "right lower lobe", RLL')
    parser.add_argument("--limit", type=int, default=None, help="how many cases")
    parser.add_argument("--json", action="store_true", help="for machines")
    config.add_flags(parser)
    parser.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Exit code 1 when the PACS did not accept the report; it is kept here in any case."""
    must_run(settings)
    ask = _asker(settings)
    parameters = {"anatomy": args.region} | ({"limit": str(args.limit)} if args.limit is not None else {})
    saved = ask("POST", f"/api/studies/{quote(args.study, safe='')}/report", parameters)
    job: dict[str, Any] | None = None
    if not args.json:
        out.print(f"kept at {saved['stored']}", markup=False, soft_wrap=True)
    if saved["job_url"]:
        job = _wait(ask, saved["job_url"], saved["destination"])
    if args.json:
        print_json(saved | {"outcome": job})
    elif job is None:
        out.print("no PACS is set to send it to (return_destination)")
    else:
        sent = job["state"] == JobState.DONE
        out.print(f"{'sent' if sent else 'not sent'} to {saved['destination']}: {job['message']}", markup=False)
    return 0 if job is None or job["state"] == JobState.DONE else 1


def _wait(ask: Callable[..., dict[str, Any]], url: str, destination: str) -> dict[str, Any]:
    """The job when it has ended; each problem on the way is printed once."""
    said = ""
    while True:
        job = ask("GET", url)
        if job["state"] in (JobState.DONE, JobState.FAILED):
            return job
        if job["message"] and job["message"] != said:
            said = job["message"]
            errors.print(f"not yet at {destination}: {said}; trying again", markup=False, soft_wrap=True)
        time.sleep(_LOOK_S)


def _asker(settings: Settings) -> Callable[..., dict[str, Any]]:
    """A function that queries the web service of this installation. Raises BadInput for its refusals."""
    root = (read_state(settings) or {}).get("web") or settings.web_url
    session = session_of(settings)
    headers = {"Authorization": f"Bearer {settings.api_tokens[0]}"} if settings.api_tokens else {}

    def ask(method: str, path: str, parameters: Mapping[str, str] | None = None) -> dict[str, Any]:
        try:
            answer = session.request(method, root + path, params=parameters, headers=headers, timeout=_ANSWER_S)
            found: dict[str, Any] = answer.json()
        except (requests.RequestException, ValueError):
            raise RadirError(f"the web service at {root} does not answer") from None
        if answer.status_code >= 400:
            raise BadInput(found.get("error", {}).get("message", f"the web service answers {answer.status_code}"))
        return found

    return ask
