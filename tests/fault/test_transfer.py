"""The transfer process, for real: a slow PACS delays neither reports nor the network."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset

from radir_pacs.intake.instances import Intake
from radir_pacs.types import JobKind, JobState, StudyState
from tests.fault.test_kills import Stack, broker_url, eventually, kill, stack
from tests.integration.test_pull_study import pacs, trickle
from tests.integration.test_return_to_pacs import scp
from tests.sr_material import report

__all__ = ["broker_url", "stack"]  # fixtures


def keep(stack: Stack, ds: Dataset) -> str:
    """Store a report as the web service does; returns its SOP Instance UID."""
    with stack.blobs.incoming() as incoming, BytesIO() as file:
        pydicom.dcmwrite(file, ds, enforce_file_format=True)
        incoming.write(file.getvalue())
        assert Intake(stack.catalogue, stack.blobs, stack.settings).store(incoming, source="TEST").ok
    return str(ds.SOPInstanceUID)


def state(stack: Stack, job_id: int) -> JobState:
    return JobState(stack.catalogue.jobs.progress(job_id).state)


def running(stack: Stack) -> int:
    jobs = stack.catalogue.overview().jobs
    return sum(job.count for job in jobs if (job.kind, job.state) == (JobKind.PULL, JobState.RUNNING))


def test_a_slow_pacs_holds_up_neither_reports_nor_the_network(stack: Stack) -> None:
    with pacs(trickle) as url, scp() as (port, got):
        stack.settings = replace(
            stack.settings,
            pull_url=url,
            pull_least_kib_s=0.0,
            return_destination=f"PACS@127.0.0.1:{port}",
            transfer_threads=3,
        )
        for number in range(10):
            stack.catalogue.jobs.enqueue(JobKind.PULL, f"2.25.99{number}")
        stack.start("radir_workers", "transfer")
        stack.relay()
        eventually(lambda: running(stack) == 2, stack)
        job_id = stack.catalogue.jobs.enqueue(JobKind.SEND, keep(stack, report()))
        eventually(lambda: state(stack, job_id) is JobState.DONE, stack)
        assert len(got) == 1
        eventually(lambda: running(stack) == 2, stack)  # a pull that was given up makes room for the next
        stack.receive(1)
        stack.open_gate()
        stack.worker()
        eventually(lambda: stack.states().get(StudyState.INDEXED) == 1, stack)
        eventually(lambda: running(stack) == 2, stack)


def test_a_transfer_process_that_is_killed_sends_again_what_it_had_not_ended(stack: Stack) -> None:
    """The same report under the same UID: a PACS keeps it once."""
    with pacs(trickle) as url, scp() as (port, got):
        stack.settings = replace(
            stack.settings, pull_url=url, pull_least_kib_s=0.0, return_destination=f"PACS@127.0.0.1:{port}"
        )
        pull = stack.catalogue.jobs.enqueue(JobKind.PULL, "2.25.991")
        transfer = stack.start("radir_workers", "transfer")
        stack.relay()
        eventually(lambda: state(stack, pull) is JobState.RUNNING, stack)
        kill(transfer)
        uid = keep(stack, report())
        sent = stack.catalogue.jobs.enqueue(JobKind.SEND, uid)
        stack.start("radir_workers", "transfer")
        eventually(lambda: state(stack, sent) is JobState.DONE, stack)
        eventually(lambda: stack.catalogue.jobs.progress(pull).attempt >= 2, stack)
    assert [ds.SOPInstanceUID for ds in got] == [uid]
