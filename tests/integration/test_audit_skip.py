"""A receiver that refuses one event of the audit trail for good: a person goes on without it, and the trail says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from radir_pacs.audit_feed.feed import AuditFeed
from radir_pacs.audit_feed.fhir_feed import FhirReceiver
from radir_pacs.callers import AuditEvent, Role
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.errors import BadInput, NotFound
from tests.audit_receivers import SOURCE, FhirServer, failure, noted, waiting
from tests.catalogue_material import TESTER


@pytest.fixture
def fhir() -> Iterator[FhirServer]:
    made = FhirServer()
    yield made
    made.close()


@pytest.fixture
def feed(fhir: FhirServer, catalogue: Catalogue, settings: Settings) -> AuditFeed:
    catalogue.audit_receivers.keep(["fhir"])
    return AuditFeed(catalogue, FhirReceiver(replace(settings, audit_fhir=fhir.url), SOURCE), "me")


@pytest.mark.parametrize("status", [400, 422])
def test_what_follows_goes_on_in_order(
    feed: AuditFeed,
    fhir: FhirServer,
    catalogue: Catalogue,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: int,
) -> None:
    numbers = noted(catalogue, 20)
    fhir.statuses = [201] * 5 + [status]
    feed.step()
    fhir.statuses = [status]
    feed.step()
    assert fhir.events == numbers[:5] and waiting(catalogue, "fhir") == 15, "it stands at the sixth"
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("radir_pacs.cli.audit.must_run", lambda settings: None)
    skip = ["audit", "skip", "--receiver", "fhir"]
    for wrong in (skip, [*skip, "--reason", " "], ["audit", "skip", "--reason", "x"], [*skip, "--reason", "x" * 401]):
        assert main(wrong) == 1
    capsys.readouterr()
    assert main([*skip, "--reason", "it rejects this id", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"receiver": "fhir", "skipped": numbers[5], "event": "OPENED"}
    assert main([*skip, "--reason", "again"]) == 1, "one decision leaves out one event"
    catalogue.audit.seal()
    feed.step()
    (told,) = catalogue.audit.events(event=AuditEvent.AUDIT_SKIPPED)
    assert fhir.events == [*numbers[:5], *numbers[6:], told.id], "the rest in order, and who left out what"
    assert told.role is Role.COMMAND
    assert told.detail == {
        "receiver": "fhir",
        "skipped": numbers[5],
        "skipped_as": "OPENED",
        "reason": "it rejects this id",
    }
    assert waiting(catalogue, "fhir") == 0 and failure(catalogue) is None
    assert catalogue.audit.verify().broken_at is None
    assert numbers[5] in {row.id for row in catalogue.audit.events()}, "the trail here keeps it"


def test_nothing_that_was_not_refused_is_left_out(feed: AuditFeed, fhir: FhirServer, catalogue: Catalogue) -> None:
    receivers = catalogue.audit_receivers
    with pytest.raises(NotFound):
        receivers.skip("syslog", "x", TESTER)
    with pytest.raises(BadInput, match="refused no event"):
        receivers.skip("fhir", "x", TESTER)
    noted(catalogue, 3)
    fhir.close()
    fhir._httpd.server_close()
    feed.step()
    assert failure(catalogue) == "PEER_UNREACHABLE"
    with pytest.raises(BadInput, match="when it can be reached"):
        receivers.skip("fhir", "x", TESTER)
    assert waiting(catalogue, "fhir") == 3
    assert catalogue.audit.events(event=AuditEvent.AUDIT_SKIPPED) == ()


@pytest.mark.parametrize("status", [400, 404, 409, 410, 412, 413, 415, 422])
def test_what_answers_to_one_event_may_be_left_out(
    feed: AuditFeed,
    fhir: FhirServer,
    catalogue: Catalogue,
    status: int,
) -> None:
    numbers = noted(catalogue, 2)
    fhir.statuses = [status]
    feed.step()
    assert failure(catalogue) == "PEER_REFUSED"
    assert catalogue.audit_receivers.skip("fhir", "why not", TESTER).id == numbers[0]


@pytest.mark.parametrize("status", [301, 401, 403, 405, 408, 421, 429, 500, 502, 503, 507])
def test_a_receiver_that_is_ill_lacks_nothing(
    feed: AuditFeed,
    fhir: FhirServer,
    catalogue: Catalogue,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    """It would have answered so to any event: the one that met it is good, and arrives later."""
    numbers = noted(catalogue, 2)
    fhir.statuses = [status]
    feed.step()
    assert failure(catalogue) == "PEER_BAD_ANSWER"
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("radir_pacs.cli.audit.must_run", lambda settings: None)
    assert main(["audit", "skip", "--receiver", "fhir", "--reason", "it is stuck"]) == 1
    feed.step()
    assert fhir.events == numbers and failure(catalogue) is None
    assert catalogue.audit.events(event=AuditEvent.AUDIT_SKIPPED) == ()


def test_a_batch_on_its_way_moves_nothing_back(feed: AuditFeed, fhir: FhirServer, catalogue: Catalogue) -> None:
    """The relay had claimed its batch before somebody skipped: its confirmation finds the place further on."""
    noted(catalogue, 3)
    fhir.statuses = [422]
    feed.step()
    claimed = catalogue.audit_receivers.claim("fhir", "me", hold_s=60, most=10)
    skipped = catalogue.audit_receivers.skip("fhir", "why not", TESTER)
    assert skipped.id == claimed[0].id
    catalogue.audit_receivers.sent("fhir", "me", claimed[0])
    catalogue.audit.seal()
    assert [row.id for row in catalogue.audit_receivers.claim("fhir", "me", hold_s=60, most=10)][:2] == [
        row.id for row in claimed[1:]
    ]
