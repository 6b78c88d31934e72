# Runs inside Orthanc and is therefore offered under the AGPL v3 or later; see README.md beside this file.
"""How one study is handed over: by C-STORE jobs of Orthanc, or by a pull that the RadIR service is asked for.

A study counts as handed over when the service says that it holds every instance. The jobs are never Permissive: in
release 1.10 such a job is a success without a failed instance even when nobody listens. A strict job ends at the first
instance that is not taken, so its success is the success of every instance.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from radir_queue import Entry, Queue
from radir_service import Service

OWN_MANUFACTURER, OWN_MODEL = "RadIR-PACS", "Similar case search"  # the marks of RadIR's own objects: never sent back
JOB_LOOK_S, LONGEST_JOB_S = 0.25, 3600.0
WHOLE_ATTEMPTS = 2  # at first a peer that takes nothing may be down or full; later single instances may be at fault
MOST_JOBS = 40  # in one attempt that searches for the instances at fault
MOST_REFUSED = 3  # instances refused by a peer that accepts nothing else: then the peer is at fault, not they
PULL_LOOK_S = 2.0
_INCOMPLETE = "PEER_INCOMPLETE"  # RadIR's code for a pull of which it refused some instances


class Rest(Protocol):
    """Orthanc's REST API from within. Both raise ``Gone`` for what does not exist, OSError for other failures."""

    def get(self, uri: str) -> Any: ...

    def post(self, uri: str, body: Any) -> Any: ...


class Gone(Exception):
    """The resource was deleted."""


class NotTaken(Exception):
    """The study could not be handed over this time."""


class Refused(NotTaken):
    """The peer works but refuses some of the instances; it need not be tried for ever."""


class Instance(NamedTuple):
    """``file`` is Orthanc's name for the stored bytes; it changes when the instance is overwritten."""

    name: str
    sop_uid: str
    file: str


class Study(NamedTuple):
    """The instances of a study to hand over: all except RadIR's own objects."""

    uid: str
    instances: list[Instance]

    @property
    def content(self) -> str:
        return hashlib.sha256(" ".join(sorted(one.file for one in self.instances)).encode()).hexdigest()


def read_study(rest: Rest, study: str) -> Study:
    """The study with this Orthanc id. Raises Gone."""
    uid = str(rest.get("/studies/" + study)["MainDicomTags"]["StudyInstanceUID"])
    instances = []
    for series in rest.get(f"/studies/{study}/series"):
        if not _is_own(rest, series):
            for one in rest.get(f"/series/{series['ID']}/instances"):
                instances.append(Instance(one["ID"], one["MainDicomTags"]["SOPInstanceUID"], one["FileUuid"]))
    return Study(uid, instances)


def _is_own(rest: Rest, series: dict[str, Any]) -> bool:
    """Whether RadIR made this series: a report or picture that came back to the archive (loop guard)."""
    tags = series["MainDicomTags"]
    if tags.get("Manufacturer") != OWN_MANUFACTURER or not series["Instances"]:
        return False
    found = rest.get(f"/instances/{series['Instances'][0]}/simplified-tags")
    return bool(found.get("ManufacturerModelName") == OWN_MODEL)


def held(service: Service, study_uid: str) -> set[str]:
    """The SOP Instance UIDs that the service holds of a study. Raises Unavailable, NotTaken."""
    answer = service.ask("GET", f"/api/studies/{study_uid}/instances")
    try:
        if answer.status == 200:
            return set(json.loads(answer.body)["instances"])
    except (ValueError, KeyError, TypeError):
        pass  # said below
    if answer.status in (401, 403):
        raise NotTaken("the RadIR service does not accept the plugin's Token")
    raise NotTaken(f"the RadIR service does not say what it holds (status {answer.status}); is it an older release?")


class ByStore:
    """By C-STORE to ``modality``. ``wait(seconds)`` is True when Orthanc stops."""

    def __init__(
        self, rest: Rest, queue: Queue, service: Service, modality: str, wait: Callable[[float], bool]
    ) -> None:
        self._rest, self._queue, self._service, self._modality = rest, queue, service, modality
        self._wait = wait

    def hand_over(self, entry: Entry, study: Study, now: Callable[[], float]) -> bool:
        """True when the service holds the whole study. Raises NotTaken, Unavailable, Gone, OSError."""
        before = held(self._service, study.uid)
        taken = self._queue.confirmed(entry.study)
        attempt = _Attempt(self._rest, self._modality, self._wait, now)
        left = [one for one in study.instances if one.file not in taken]
        refused = self._send(entry, study, left, before, attempt) if left else 0
        now_held = held(self._service, study.uid)
        missing = [one for one in study.instances if one.sop_uid not in now_held]
        if missing:
            self._queue.withdraw(entry.study, [one.file for one in missing])
            raise Refused(f"RadIR lacks {len(missing)} of {len(study.instances)} instances; {attempt.why}")
        if refused:
            raise Refused(f"{refused} of {len(study.instances)} instances were not taken; {attempt.why}")
        return True

    def _send(self, entry: Entry, study: Study, left: list[Instance], before: set[str], attempt: _Attempt) -> int:
        """Send, and return how many instances are left. What the peer accepts is noted at once and not sent again."""
        start = entry.attempts * MOST_REFUSED % len(left)  # so that the first ones differ from attempt to attempt
        groups, refused, works = [left[start:] + left[:start]], 0, False
        while groups:
            group = groups.pop()
            if attempt.send(group):
                self._queue.confirm(entry.study, [one.file for one in group])
                works = True
                continue
            new = held(self._service, study.uid) - before  # raises, which ends the attempt, if the service is away
            came = [one for one in group if one.sop_uid in new]
            self._queue.confirm(entry.study, [one.file for one in came])
            works = works or bool(came)
            if entry.attempts < WHOLE_ATTEMPTS and not works:
                raise NotTaken(attempt.why)
            group = [one for one in group if one not in came]
            if len(group) == 1:
                refused += 1
            elif group:
                half = len(group) // 2
                groups += [group[half:], group[:half]]
            if (refused >= MOST_REFUSED and not works) or attempt.jobs >= MOST_JOBS:
                break
        return refused + sum(len(group) for group in groups)


class _Attempt:
    """The jobs of one attempt; ``why`` is what Orthanc said of the last one that failed."""

    def __init__(self, rest: Rest, modality: str, wait: Callable[[float], bool], now: Callable[[], float]) -> None:
        self._rest, self._modality, self._wait, self._now = rest, modality, wait, now
        self.jobs, self.why = 0, "the peer took the rest"

    def send(self, instances: Sequence[Instance]) -> bool:
        """Whether the peer accepted every one. The job's state is polled, never waited for inside Orthanc."""
        self.jobs += 1
        body = {"Resources": [one.name for one in instances], "Synchronous": False, "Permissive": False}
        job = "/jobs/" + self._rest.post(f"/modalities/{self._modality}/store", body)["ID"]
        until = self._now() + LONGEST_JOB_S
        while not self._wait(JOB_LOOK_S):
            try:
                found = self._rest.get(job)
            except Gone:  # Orthanc keeps few finished jobs: the outcome of this one is unknown
                self.why = "Orthanc forgot its C-STORE job"
                return False
            if found["State"] == "Success":
                return True
            if found["State"] == "Failure":
                self.why = found.get("ErrorDetails") or found.get("ErrorDescription") or "the C-STORE job failed"
                return False
            if self._now() > until:
                self._rest.post(job + "/cancel", {})
                raise NotTaken("the C-STORE job took too long")
        raise NotTaken("Orthanc stops")


class ByPull:
    """By reference: the service is asked to pull the study, and later asked how that went."""

    def __init__(self, queue: Queue, service: Service) -> None:
        self._queue, self._service = queue, service

    def hand_over(self, entry: Entry, study: Study, now: Callable[[], float]) -> bool:
        """True when the service holds the whole study, False while it is pulling. Raises NotTaken, Unavailable."""
        if entry.job is None or entry.asked_content != study.content:
            job = _number(self._ask("POST", f"/dicom-web/studies/{study.uid}/pull", 202), "job")
            self._queue.asked(entry, job, study.content, now() + PULL_LOOK_S)
            return False
        found = self._ask("GET", f"/api/studies/{study.uid}/jobs/{entry.job}", 200)
        if found.get("state") in ("PENDING", "RUNNING"):
            self._queue.asked(entry, entry.job, study.content, now() + PULL_LOOK_S)
            return False
        if found.get("state") != "DONE":
            code = found.get("reason_code")
            failure = Refused if code == _INCOMPLETE else NotTaken
            raise failure(f"RadIR's pull failed: {code}, {found.get('message')}")
        missing = len({one.sop_uid for one in study.instances} - held(self._service, study.uid))
        if missing:
            raise Refused(f"RadIR lacks {missing} of {len(study.instances)} instances")
        return True

    def _ask(self, method: str, path: str, expected: int) -> dict[str, Any]:
        answer = self._service.ask(method, path)
        found = json.loads(answer.body) if answer.status == expected else None
        if not isinstance(found, dict):
            raise NotTaken(f"RadIR answers a reference with status {answer.status}")
        return found


def _number(found: dict[str, Any], name: str) -> int:
    value = found.get(name)
    if not isinstance(value, int):
        raise NotTaken("the RadIR service gave an answer that cannot be used")
    return value
