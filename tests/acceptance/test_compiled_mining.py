"""What reads a sentence, compiled as `RADIR_COMPILED=1` does (ADR 0030), finds the same in the same texts."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from radir_pacs.reports import mine
from radir_pacs.reports.stored import findings_to_json
from tests.services import need

HERE = Path(__file__).parents[2]
TEXTS = ("german_reports", "report_forms", "hard_sentences")
_MINES = """
import json, sys
from radir_pacs.reports import marks, mine
from radir_pacs.reports.stored import findings_to_json
found = [findings_to_json(mine(text).findings) for text in json.load(sys.stdin)]
json.dump({"file": marks.__file__, "found": found}, sys.stdout)
"""


def compiled(copy: Path) -> None:
    """Make a copy of the package, and in it the extension modules: in ten seconds, or from the last time."""
    shutil.copytree(HERE / "radir_pacs", copy / "radir_pacs", ignore=shutil.ignore_patterns("__pycache__", "bundles"))
    read = [p for folder in ("reports", "anatomy") for p in sorted((copy / "radir_pacs" / folder).rglob("*.py"))]
    content = b"".join(path.read_bytes() for path in (HERE / "setup.py", *read)) + sys.version.encode()
    kept = HERE / "build" / "compiled-mining" / hashlib.sha256(content).hexdigest()
    if not kept.exists():
        for name in ("setup.py", "README.md", "pyproject.toml"):
            shutil.copy(HERE / name, copy)
        build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        once = {"RADIR_COMPILED": "1", "MYPYC_OPT_LEVEL": "0"}  # it runs for a second
        subprocess.run(build, cwd=copy, env=os.environ | once, check=True, timeout=240)
        shutil.rmtree(kept.parent, ignore_errors=True)
        for made in copy.rglob("*.so"):
            if "build" not in made.relative_to(copy).parts:
                place = kept.with_suffix(".new") / made.relative_to(copy)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(made, place)
        kept.with_suffix(".new").rename(kept)
    shutil.copytree(kept, copy, dirs_exist_ok=True)


def texts() -> list[str]:
    kinds = (tomllib.loads((HERE / f"tests/unit/{name}.toml").read_text("utf-8")) for name in TEXTS)
    return [example["text"] for kind in kinds for examples in kind.values() for example in examples]


def test_the_compiled_form_finds_the_same(tmp_path: Path) -> None:
    need("cc")
    compiled(tmp_path)
    given = texts()
    assert len(given) > 700
    done = subprocess.run(
        [sys.executable, "-c", _MINES],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    said: dict[str, Any] = json.loads(done.stdout)
    assert Path(said["file"]).parent == tmp_path / "radir_pacs/reports" and said["file"].endswith(".so")
    expected = json.loads(json.dumps([findings_to_json(mine(text).findings) for text in given]))
    different = [text for text, ours, theirs in zip(given, expected, said["found"], strict=True) if ours != theirs]
    assert not different
