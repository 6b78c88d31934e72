"""Intake when the catalogue is away: the sender hears a failure and keeps its copy (P1)."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import radir_pacs
from radir_pacs import errors
from radir_pacs.config import Settings
from radir_pacs.errors import BadInput, RadirError, StorageFailed
from radir_pacs.intake.instances import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, Intake
from radir_pacs.storage.blobs import BlobStore
from tests.dicom_files import radiograph, save


class Away:
    """Every call of every part fails as a catalogue without its database does."""

    def __getattr__(self, part: str) -> Any:
        return Away()

    def __call__(self, *_: object, **__: object) -> None:
        raise StorageFailed("the database did not answer")

    instances = refusals = property(lambda self: self)


@pytest.fixture
def intake(tmp_path: Path) -> Intake:
    settings = Settings(home=tmp_path / "home", min_free_disk_mib=0)
    return Intake(Away(), BlobStore(settings.home / "blobs"), settings)  # type: ignore[arg-type]


def test_without_the_catalogue_nothing_is_acknowledged(intake: Intake, tmp_path: Path) -> None:
    path = save(radiograph(), tmp_path / "image.dcm")
    with intake._blobs.incoming() as incoming:
        incoming.write(path.read_bytes())
        outcome = intake.store(incoming, source="PEER")
    assert (outcome.status, outcome.ok) == (OUT_OF_RESOURCES, False)
    assert outcome.sop_uid and outcome.reason


@pytest.mark.parametrize(
    ("error", "status"), [(BadInput("odd"), CANNOT_UNDERSTAND), (StorageFailed("full"), OUT_OF_RESOURCES)]
)
def test_a_refusal_that_cannot_be_recorded_is_still_said(
    intake: Intake, error: RadirError, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = intake.refuse(error, source="PEER", sop_uid="1.2.3")
    assert (outcome.status, outcome.reason, outcome.sop_uid) == (status, str(error), "1.2.3")
    assert [record.message for record in caplog.records] == ["refusal not recorded"]


_FILES = ["dicom/elements.py", "dicom/header.py", "catalogue/instances.py", "intake/instances.py"]


@pytest.mark.parametrize("name", _FILES)
def test_a_refusal_says_why_within_error_comment(name: str) -> None:
    """(0000,0902) Error Comment holds 64 characters (PS3.7 C.4.2): a reason cut off in the middle explains nothing."""
    tree = ast.parse((Path(radir_pacs.__file__).parent / name).read_text())
    names = {
        node: node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    calls = [
        call
        for call, made in names.items()
        if isinstance(kind := getattr(errors, made, None), type) and issubclass(kind, RadirError)
    ]
    said = [argument.value for call in calls for argument in call.args if isinstance(argument, ast.Constant)]
    assert said
    assert [words for words in said if len(str(words)) > 64] == []
