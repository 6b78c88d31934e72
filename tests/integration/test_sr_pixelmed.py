"""PixelMed's validator finds no error in our reports. It compiles its rules for seconds, so all are given to one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.services import need, need_module
from tests.sr_material import report, several_regions, several_slices

JARS = [Path("/usr/share/java") / f"{name}.jar" for name in ("pixelmed", "commons-codec", "slf4j-api", "slf4j-nop")]
REPORTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "successor": ("DX", "left_costophrenic_angle", {"predecessor": True}),
    "comprehensive": ("CT", "heart", {"comprehensive_3d": False, "include_other_uids": False}),
    "radiograph": ("DX", "lungs", {}),
    "slices": ("CT", "pleura", several_slices()),
    "regions": ("DX", "left_pleura", several_regions()),
}
# In a process of its own, as a JVM stays in the one that started it. The flags are the defaults of the command.
_VALIDATES = """
import json, sys, jpype
limits = [f"-Djdk.xml.xpath{name}Limit=0" for name in ("ExprOp", "TotalOp", "ExprGrp")]
jars, files = json.load(sys.stdin)
jpype.startJVM("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *limits, classpath=jars)
validator = jpype.JClass("com.pixelmed.validate.DicomSRValidator")()
print(json.dumps([str(validator.validate(file, False, True, False, False, False)) for file in files]))
"""

# TID 1410 and 1411 leave qualitative evaluations to their caller, so PixelMed knows none and notes each.
_EXPLANATION = re.compile(r"/CODE \((SHARED|CONTRA)-FINDING,99RADIR,.*: Content Item not in template$")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What PixelMed says of each report."""
    need("java")
    need_module("jpype")
    if not JARS[0].exists():
        reason = "PixelMed is not installed"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("reports")
    for name, (modality, region, options) in REPORTS.items():
        changed = {**options, "predecessor": report(modality)} if options.get("predecessor") else options
        report(modality, region, **changed).save_as(folder / name, enforce_file_format=True)
    given = json.dumps([[str(jar) for jar in JARS], [str(folder / name) for name in REPORTS]])
    command = [sys.executable, "-c", _VALIDATES]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(REPORTS, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("name", REPORTS)
def test_pixelmed_finds_no_error(said: dict[str, str], name: str) -> None:
    lines = said[name].splitlines()
    assert "Root Template Validation Complete" in said[name]
    faults = [line for line in lines if line.startswith("Error") or "illegal" in line.lower()]
    warnings = [line for line in lines if line.startswith("Warning") and not _EXPLANATION.search(line)]
    assert (faults, warnings) == ([], [])
