"""The documentation does what it says: commands of its pages run, in their order, beside a running installation.

Only pages that no other test covers: each command starts Python, which takes seconds. That the parser takes the
commands of every page is tested in tests/unit/test_docs_commands.py.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.acceptance.orthanc_house import Hospital
from tests.conftest import free_port
from tests.doc_blocks import Block, pages, python_cells, shell_blocks
from tests.integration.orthanc import DICOM_WEB, PYTHON, need_plugin
from tests.services import ROOT, need
from tests.stack import Stack, running_stack

_SECONDS = 480
pytestmark = pytest.mark.timeout(_SECONDS + 60, func_only=True)  # a stack that starts has limits of its own
_TUTORIAL, _ORTHANC_PAGE = "docs/tutorial/first-hour.md", "docs/how-to/connect-orthanc.md"
_NOTEBOOK = "docs/how-to/notebook.md"
_BESIDE = ("docs/how-to/connect-a-ris.md", "docs/how-to/import-a-model.md")  # they hold scripts that are only there
RUN = (_TUTORIAL, _ORTHANC_PAGE, _NOTEBOOK, *_BESIDE)


@dataclass
class House:
    """A stack with a hospital in it, a folder to work in, programs that stand in for those that need root."""

    stack: Stack
    work: Path
    programs: Path
    orthanc_port: int

    def here(self, text: str) -> str:
        """A text of the documentation with this machine's places in place of the usual ones."""
        etc = self.work / "etc"
        for usual, own in {
            ".venv/bin/": "",
            "/etc/orthanc": f"{etc}/orthanc",
            "/etc/radir": str(etc),
            "/var/lib/radir": str(self.stack.home),
            "/mnt/backup": str(self.work / "backup"),
            "127.0.0.1:8042": f"127.0.0.1:{self.stack.web_port}",
            "127.0.0.1:8043": f"127.0.0.1:{self.orthanc_port}",
            "127.0.0.1/2575": f"127.0.0.1/{self.stack.environment['RADIR_HL7_PORT']}",
        }.items():
            text = text.replace(usual, own)
        return text

    def check(self, blocks: list[Block]) -> None:
        """Run them as one script, which must succeed."""
        script = "set -euo pipefail\n" + "\n".join(self.here(block.text) for block in blocks)
        path = f"{self.programs}:{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
        done = subprocess.run(
            ["bash", "-xc", script],
            cwd=self.work,
            env={**self.stack.environment, "PATH": path},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
        (self.work / "said").write_text(done.stdout)
        assert done.returncode == 0, (done.stdout[-1500:], done.stderr[-3000:])


_ORTHANC = """#!/bin/bash
# In the place of systemctl restart orthanc: the configuration that the page installed, at this test's places.
set -e
sed -i -e 's#/var/lib/orthanc#{work}/orthanc#; s#/etc/orthanc#{work}/etc/orthanc#; s#: 8043#: {port}#' \
  -e 's#127.0.0.1:8042#127.0.0.1:{web}#; s#11112#{listener}#; s#"DicomPort": 4242#"DicomServerEnabled": false#' \
  -e 's#"StableAge": 30#"StableAge": 1#' {work}/etc/orthanc/orthanc.json
[ -e {work}/orthanc.pid ] && kill "$(cat {work}/orthanc.pid)" && tail --pid="$(cat {work}/orthanc.pid)" -f /dev/null
mkdir -p {work}/orthanc
{orthanc} {work}/etc/orthanc/orthanc.json >{work}/orthanc.log 2>&1 </dev/null &
echo $! >{work}/orthanc.pid
"""


@contextmanager
def running_house(stack: Stack, factory: pytest.TempPathFactory) -> Iterator[House]:
    work, programs = factory.mktemp("docs"), factory.mktemp("programs")
    (work / "etc").mkdir()
    for name in ("orthanc_plugin", "deploy", "radir_pacs"):  # pages are read in a clone
        (work / name).symlink_to(ROOT / name)
    house = House(stack, work, programs, free_port())
    program(house, "sudo", '#!/bin/bash\nexec "$@"\n')
    program(house, "apt-get", "#!/bin/bash\nexit 0\n")  # what the test needs is there, or it skips
    try:
        yield house
    finally:
        pid = work / "orthanc.pid"
        if pid.exists():
            subprocess.run(["kill", pid.read_text().strip()], check=False)


@pytest.fixture(scope="module")
def docs_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Empty at first: the first hour, whose test comes first, fills it; the other pages work with what it left."""
    ohif = ROOT / ".cache" / "ohif"  # fetched once, and kept beside the working tree
    settings = {"hl7_port": str(free_port()), "ohif_folder": str(ohif)}
    with running_stack(tmp_path_factory.mktemp("stack"), **settings) as stack:
        yield stack


@pytest.fixture
def empty_house(docs_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with running_house(docs_stack, tmp_path_factory) as started:
        yield started


@pytest.fixture
def house(docs_stack: Stack, hospital: Hospital, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """With the hospital of the first hour in it, or where that was not run, the radiographs of the same one."""
    folder, studies = hospital
    radiographs = [one for one in studies if one["kind"] == "CXR"]
    if not docs_stack.status()["studies"]:
        docs_stack.json("send", *(str(folder / file) for one in radiographs for file in one["files"]))
        docs_stack.wait_until_done(len(radiographs))
    with running_house(docs_stack, tmp_path_factory) as started:
        yield started


def program(house: House, name: str, text: str) -> None:
    path = house.programs / name
    path.write_text(text)
    path.chmod(0o755)


def use_orthanc(house: House) -> None:
    os.environ["PATH"] += os.pathsep + "/usr/sbin"  # where Debian has it
    orthanc = need("Orthanc")
    for name in (DICOM_WEB, PYTHON):
        need_plugin(name)
    places = {"work": house.work, "port": house.orthanc_port, "web": house.stack.web_port}
    text = _ORTHANC.format(**places, listener=house.stack.listener_port, orthanc=orthanc)
    program(house, "systemctl", text)


def test_the_first_hour_ends_with_a_hit_beside_orthanc(empty_house: House) -> None:
    """And then the rest of Orthanc's page. What OHIF shows is looked at in Chromium by orthanc/test_viewers."""
    need("npm")
    use_orthanc(empty_house)
    text = (ROOT / _ORTHANC_PAGE).read_text("utf-8")
    steps = text[: text.index("## 4.")].count("\n")
    tutorial = (ROOT / _TUTORIAL).read_text("utf-8")
    before = tutorial[: tutorial.index("## 3.")].count("\n")
    blocks = runnable(_TUTORIAL)
    empty_house.check(
        [block for block in blocks if block.line <= before]
        + [block for block in runnable(_ORTHANC_PAGE) if block.line <= steps]
        + [block for block in blocks if block.line > before]
    )
    assert empty_house.stack.status()["studies"] == {"INDEXED": 13}
    [study] = set(re.findall(r"StudyInstanceUIDs=([\d.]+)", (empty_house.work / "said").read_text()))
    found = empty_house.stack.json("similar", study, "--region", "right lower lobe")
    page = requests.get(f"http://127.0.0.1:{empty_house.orthanc_port}/radir/ohif/viewer?StudyInstanceUIDs={study}")
    assert found["cases"] and page.status_code == 200 and "/ohif/" in page.text
    empty_house.check([block for block in runnable(_ORTHANC_PAGE) if block.line > steps])


@pytest.mark.parametrize("page", _BESIDE)
def test_the_commands_of_a_page_run(house: House, page: str) -> None:
    house.check(runnable(page))


def test_the_examples_of_the_notebook_run(house: House) -> None:
    """One after another in one process, as the cells of a notebook."""
    house.check(runnable(_NOTEBOOK))
    cells = python_cells(_NOTEBOOK)
    assert len(cells) >= 6
    script = house.work / "notebook.py"
    script.write_text(house.here("\n".join(cells)))
    done = subprocess.run(
        [sys.executable, script], cwd=house.work, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "consolidation left_lower_lobe present worse" in done.stdout and "cxr-tiny" in done.stdout


def runnable(page: str) -> list[Block]:
    return [block for block in shell_blocks(page) if not block.reason]


def test_every_page_that_is_run_has_commands_and_says_why_some_are_not() -> None:
    for page in RUN:
        assert runnable(page), page
    for page in pages():
        for block in shell_blocks(page):
            assert not block.reason or len(block.reason) > 5, f"{block} is not run, without a reason"
