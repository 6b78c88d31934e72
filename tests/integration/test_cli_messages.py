"""What an administrator sees of messages that could not be used, and of reports that wait: nothing about a patient."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.hl7.handling import Handler
from tests.hl7_material import code, oru


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find this test's installation."""
    settings.home.mkdir(parents=True, exist_ok=True)
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)


def test_kept_messages_and_waiting_reports_are_listed_shown_and_dropped(
    catalogue: Catalogue, settings: Settings, capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    handler = Handler(catalogue, settings)
    [broken], [clear] = handler.answer(oru(obx=[])), handler.answer(oru("Clear.", control="M2"))
    assert (code(broken), code(clear)) == ("AE", "AA")
    assert main(["problems"]) == 0
    said = capsysbinary.readouterr().out.decode()
    assert "NO_TEXT" in said and "M1" in said and "RIS|HOSP" in said and "wait for their study" in said
    assert "Muster" not in said and "p1" not in said
    assert main(["problems", "--json"]) == 0
    found = json.loads(capsysbinary.readouterr().out)
    [message], [waiting] = found["messages"], found["waiting"]
    assert message["reason_code"] == "NO_TEXT" and waiting["source"] == "hl7"
    assert "Muster" not in json.dumps(found)
    assert main(["messages", "show", str(message["id"])]) == 0
    assert b"PID|1||p1" in capsysbinary.readouterr().out
    assert main(["status", "--json"]) in (0, 1)
    status = json.loads(capsysbinary.readouterr().out)
    assert (status["waiting_reports"], status["messages"]) == (1, {"KEPT": 1, "WAITING": 1})
    assert main(["messages", "drop", str(message["id"])]) == 0
    assert main(["messages", "drop", str(message["id"])]) == 1
    assert main(["messages", "drop"]) == 1 and main(["messages", "show"]) == 1
    assert main(["messages", "drop", "--all", "--json"]) == 0
    assert catalogue.messages.kept() == ()


def test_an_administrator_mends_a_setting_and_the_message_comes_again(catalogue: Catalogue, settings: Settings) -> None:
    deaf = Handler(catalogue, replace(settings, hl7_senders=("OTHER",)))
    assert code(*deaf.answer(oru("Clear."))) == "AR"
    assert code(*Handler(catalogue, settings).answer(oru("Clear."))) == "AA"
    assert catalogue.messages.kept() == () and catalogue.overview().waiting_reports == 1
