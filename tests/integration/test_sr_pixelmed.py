"""PixelMed's validator finds no error in our reports. Its start takes seconds, so there are few of them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.services import need
from tests.sr_material import report, several_slices

JARS = [Path("/usr/share/java") / f"{name}.jar" for name in ("pixelmed", "commons-codec", "slf4j-api", "slf4j-nop")]

# TID 1410 and 1411 leave qualitative evaluations to their caller, so PixelMed knows none and notes each.
_EXPLANATION = re.compile(r"/CODE \((SHARED|CONTRA)-FINDING,99RADIR,.*: Content Item not in template$")


@pytest.mark.parametrize(
    ("modality", "region", "options"),
    [
        ("DX", "left_costophrenic_angle", {"predecessor": True}),
        ("CT", "heart", {"comprehensive_3d": False, "include_other_uids": False}),
        ("DX", "lungs", {}),
        ("CT", "pleura", several_slices()),
    ],
)
def test_pixelmed_finds_no_error(modality: str, region: str, options: dict[str, Any], tmp_path: Path) -> None:
    java = need("java")
    if not JARS[0].exists():
        reason = "PixelMed is not installed"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    changed = {**options, "predecessor": report(modality)} if options.get("predecessor") else options
    report(modality, region, **changed).save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    limits = [f"-Djdk.xml.xpath{name}Limit=0" for name in ("ExprOp", "TotalOp", "ExprGrp")]
    validator = ["-cp", ":".join(map(str, JARS)), "com.pixelmed.validate.DicomSRValidator"]
    command = [java, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *limits, *validator, str(tmp_path / "sr.dcm")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    said = done.stdout + done.stderr
    assert "Root Template Validation Complete" in said
    faults = [line for line in said.splitlines() if line.startswith("Error") or "illegal" in line.lower()]
    warnings = [line for line in said.splitlines() if line.startswith("Warning") and not _EXPLANATION.search(line)]
    assert (faults, warnings) == ([], [])
