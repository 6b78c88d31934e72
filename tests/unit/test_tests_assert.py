"""Every test can fail: it asserts, or calls a helper whose name says that it does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
# pytest.raises and pytest.fail, playwright's expect, numpy's and torch's assert_*, hypothesis's state machines, and
# helpers that wait for a state until a deadline
SAYS_SO = re.compile(
    r"(raises|warns|fail|expect|eventually|assert_\w+|check\w*|wait_for\w*|wait_until\w*|run_state_machine_as_test)\b"
)


def called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def asserts(test: ast.AST) -> bool:
    return any(
        isinstance(node, ast.Assert) or (isinstance(node, ast.Call) and SAYS_SO.fullmatch(called(node)) is not None)
        for node in ast.walk(test)
    )


def without_assertion(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not asserts(node):
            yield node.name


def test_every_test_asserts() -> None:
    files = sorted(TESTS.rglob("test_*.py"))
    assert [f"{file.name}: {name}" for file in files for name in without_assertion(file.read_text("utf-8"))] == []


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("run()", ["test_a"]),
        ("run(), checked", ["test_a"]),
        ("for _ in (1, 2):\n        assert run()", []),
        ("with pytest.raises(ValueError):\n        run()", []),
        ("np.testing.assert_allclose(run(), 1)", []),
        ("expect(page).to_have_text('x')", []),
        ("wait_for(lambda: run())", []),
    ],
)
def test_what_counts_as_an_assertion(body: str, found: list[str]) -> None:
    assert list(without_assertion(f"def test_a():\n    {body}\n")) == found
