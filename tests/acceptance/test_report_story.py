"""The life of a report beside `radir up`. The seconds that it prints are measured by benchmarks/speed/hl7.py."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import free_port
from tests.hl7_material import Peer
from tests.report_story import Hospital, Story
from tests.stack import running_stack


def test_the_story(tmp_path: Path, hospital: Hospital) -> None:
    port = free_port()
    with running_stack(tmp_path / "home", hl7_port=str(port), min_cases="1") as stack, Peer(port, timeout_s=60) as ris:
        steps = dict(Story(stack, ris, hospital, tmp_path / "images").tell())
    assert len(steps) == 5
    for step, seconds in steps.items():
        print(f"{seconds:5.2f} s  {step}")
