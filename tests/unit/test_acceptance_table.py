"""Every acceptance test runs on three machines, or a table says why it does not."""

from __future__ import annotations

import ast

from tests.machines.acceptance import NOT_THERE, reason_against
from tests.services import ROOT

FOLDER = ROOT / "tests" / "acceptance"


def test_every_file_is_decided_on() -> None:
    assert NOT_THERE.keys() == {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("test_*.py")}


def test_every_test_that_the_table_names_is_there_and_has_a_reason() -> None:
    for file, reasons in NOT_THERE.items():
        tree = ast.parse((FOLDER / file).read_text("utf-8"))
        tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert reasons.keys() <= tests | {""} and all(reasons.values()), file


def test_variants_of_a_test_share_its_reason() -> None:
    assert reason_against("test_peers.py", "test_x[CXR]") == ""
    assert reason_against("test_compiled_mining.py", "test_x[CXR]")
    [(test, reason)] = NOT_THERE["test_docs_run.py"].items()
    assert reason_against("test_docs_run.py", f"{test}[a page]") == reason
