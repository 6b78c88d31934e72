"""DICOM peers: who may call, from where, for what; and the commands that say so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from radir_pacs.access.peers import Certificate, KnownPeers, PeerRights
from radir_pacs.callers import AuditEvent
from radir_pacs.catalogue import Catalogue, Peer
from radir_pacs.cli import main
from radir_pacs.config import Settings, to_environment
from radir_pacs.delivery.destination import Destination
from radir_pacs.delivery.send import SendOutcome, send_files
from radir_pacs.errors import BadInput, NotFound, PeerFailed
from radir_pacs.reasons import ReasonCode
from tests.catalogue_material import TESTER
from tests.conftest import free_port
from tests.dicom_files import radiograph
from tests.integration.listening import refusals, wait_for
from tests.integration.test_listener import save


def known(catalogue: Catalogue, settings: Settings) -> KnownPeers:
    made = KnownPeers(catalogue.peers, settings)
    made.refresh()
    return made


def test_nobody_named_means_this_machine_alone(catalogue: Catalogue, settings: Settings) -> None:
    peers = KnownPeers(catalogue.peers, settings)
    assert peers.rights_of("CT", "127.0.0.1", None) is None, "nothing was read yet"
    peers.refresh()
    for host, is_admitted in (("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("10.1.2.3", False)):
        assert (peers.rights_of("CT", host, None) is not None) == is_admitted, host


def test_a_name_admits_and_shuts_out_all_others(catalogue: Catalogue, settings: Settings) -> None:
    catalogue.peers.add(Peer(ae_title="CT", network="10.1.0.0/16", site="North"), by=TESTER)
    catalogue.peers.add(Peer(ae_title="CT", network="10.2.0.0/16", site="South", may_commit=False), by=TESTER)
    catalogue.peers.add(Peer(ae_title="CT", network="10.2.9.9/32", site="Annex"), by=TESTER)
    catalogue.peers.add(Peer(ae_title="WS", may_store=False), by=TESTER)
    peers = known(catalogue, settings)
    north = PeerRights(site="North")
    assert peers.rights_of("CT", "10.1.2.3", None) == peers.rights_of("CT", "::ffff:10.1.2.3", None) == north
    assert peers.rights_of("CT", "10.2.2.3", None) == PeerRights(site="South", may_commit=False)
    assert peers.rights_of("CT", "10.2.9.9", None) == PeerRights(site="Annex"), "the narrowest network decides"
    assert peers.rights_of("CT", "10.3.2.3", None) is None and peers.rights_of("CT", "127.0.0.1", None) is None
    assert peers.rights_of("WS", "fe80::1%eth0", None) == PeerRights(may_store=False)
    with pytest.raises(BadInput):
        catalogue.peers.add(Peer(ae_title="WS"), by=TESTER)
    catalogue.peers.remove("CT", by=TESTER)
    with pytest.raises(NotFound):
        catalogue.peers.remove("CT", by=TESTER)
    assert known(catalogue, settings).rights_of("CT", "10.1.2.3", None) is None
    events = [event.event for event in catalogue.audit.events()]
    assert events == [AuditEvent.PEER_REMOVED, *[AuditEvent.PEER_ADDED] * 4]


def test_titles_of_the_settings_go_on_admitting(catalogue: Catalogue, settings: Settings) -> None:
    old = Settings(home=settings.home, calling_ae_titles=("OLD",))
    assert known(catalogue, old).rights_of("OLD", "10.1.2.3", None) == PeerRights()
    assert known(catalogue, old).rights_of("NEW", "127.0.0.1", None) is None
    catalogue.peers.add(Peer(ae_title="NEW"), by=TESTER)
    assert known(catalogue, old).rights_of("OLD", "10.1.2.3", None) == PeerRights()
    catalogue.peers.add(Peer(ae_title="OLD", site="North", may_store=False), by=TESTER)  # moved here: this holds
    assert known(catalogue, old).rights_of("OLD", "10.1.2.3", None) == PeerRights(site="North", may_store=False)


def test_a_certificate_is_asked_for_by_fingerprint_or_name(catalogue: Catalogue, settings: Settings) -> None:
    held = Certificate(sha256="ab" * 32, common_name="ct")
    catalogue.peers.add(Peer(ae_title="A", certificate="sha256:" + "ab" * 32), by=TESTER)
    catalogue.peers.add(Peer(ae_title="B", certificate="CN=ct"), by=TESTER)
    catalogue.peers.add(Peer(ae_title="C", certificate="CN=mr"), by=TESTER)
    peers = known(catalogue, settings)
    assert [peers.rights_of(title, "10.0.0.1", held) is not None for title in "ABC"] == [True, True, False]
    assert [peers.rights_of(title, "10.0.0.1", None) for title in "ABC"] == [None] * 3


def test_what_a_peer_may_do_and_whose_it_is(
    listen: Callable[..., Destination], catalogue: Catalogue, tmp_path: Path
) -> None:
    for title, may_store in (("NORTH", True), ("SOUTH", True), ("READER", False)):
        catalogue.peers.add(Peer(ae_title=title, site=title.title(), may_store=may_store), by=TESTER)
    peer = listen()
    image = save(radiograph(StudyInstanceUID="2.25.5"), tmp_path / "a.dcm")
    other = save(radiograph(StudyInstanceUID="2.25.5"), tmp_path / "b.dcm")
    assert send_files([image], peer, calling_ae="NORTH")[0].outcome is SendOutcome.STORED
    assert catalogue.studies.get("2.25.5").sites == ("North",)
    (refused,) = send_files([other], peer, calling_ae="SOUTH")
    assert refused.outcome is SendOutcome.REFUSED and "another site" in refused.reason
    with pytest.raises(PeerFailed, match="accepts none of these"):
        send_files([other], peer, calling_ae="READER")
    with pytest.raises(PeerFailed, match="radir peers add"):
        send_files([other], peer, calling_ae="STRANGER")
    wait_for(lambda: any("'STRANGER' not recognized" in reason for reason in refusals(catalogue)))


def test_a_label_shuts_nobody_out_of_studies_of_before(
    listen: Callable[..., Destination], catalogue: Catalogue, tmp_path: Path
) -> None:
    catalogue.peers.add(Peer(ae_title="CT1"), by=TESTER)
    images = [save(radiograph(StudyInstanceUID="2.25.5"), tmp_path / name) for name in ("a.dcm", "b.dcm")]
    assert send_files(images[:1], listen(), calling_ae="CT1")[0].outcome is SendOutcome.STORED
    catalogue.peers.remove("CT1", by=TESTER)
    catalogue.peers.add(Peer(ae_title="CT1", site="North"), by=TESTER)
    assert {sent.outcome for sent in send_files(images, listen(), calling_ae="CT1")} == {SendOutcome.STORED}
    assert set(catalogue.studies.get("2.25.5").sites) == {"CT1", "North"}


def test_a_peer_that_is_added_may_call_soon(
    listen: Callable[..., Destination], catalogue: Catalogue, tmp_path: Path
) -> None:
    catalogue.peers.add(Peer(ae_title="ONE"), by=TESTER)
    peer, image = listen(), save(radiograph(), tmp_path / "a.dcm")
    with pytest.raises(PeerFailed):
        send_files([image], peer, calling_ae="TWO")
    catalogue.peers.add(Peer(ae_title="TWO"), by=TESTER)

    def is_stored() -> bool:
        try:
            return send_files([image], peer, calling_ae="TWO")[0].outcome is SendOutcome.STORED
        except PeerFailed:
            return False

    wait_for(is_stored)


def test_a_known_title_that_comes_another_way_is_told_so(
    catalogue: Catalogue, listen: Callable[..., Destination], tmp_path: Path
) -> None:
    """ "Not recognized" would have its administrator look at the title, which is right."""
    catalogue.peers.add(Peer(ae_title="CT1", certificate="CN=ct"), by=TESTER)
    peer = listen()
    with pytest.raises(PeerFailed):
        send_files([save(radiograph(), tmp_path / "a.dcm")], peer, calling_ae="CT1")
    wait_for(lambda: refusals(catalogue))
    (row,) = catalogue.refusals.recent()
    assert "'CT1' is known, but not by this address, certificate or port" in row.reason
    assert "not recognized" not in row.reason and row.reason_code is ReasonCode.REFUSED_PEER


def test_the_commands(
    catalogue: Catalogue,
    settings: Settings,
    listen: Callable[..., Destination],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("radir_pacs.cli.peers.must_run", lambda settings: None)
    catalogue.peers.add(Peer(ae_title="RADIR"), by=TESTER)
    peer = listen()
    add = ["peers", "add", "CT 1", "--from", "10.1.0.0/16", "--site", "North", "--no-commitment"]
    assert main([*add, "--at", f"{peer.host}:{free_port()}"]) == 0
    assert main(["peers", "add", "PACS", "--at", f"{peer.host}:{peer.port}", "--json"]) == 0
    capsys.readouterr()
    assert main(["peers", "list", "--json"]) == 0
    listed = {row["ae_title"]: row for row in json.loads(capsys.readouterr().out)}
    assert listed["CT 1"]["network"] == "10.1.0.0/16" and not listed["CT 1"]["may_commit"]
    assert main(["peers", "echo", "PACS"]) == 0
    assert "PACS answers" in capsys.readouterr().out
    assert main(["peers", "echo", "--json"]) == 1
    told = {row["peer"]: row["answers"] for row in json.loads(capsys.readouterr().out)}
    assert told == {"CT 1": False, "PACS": True, "RADIR": False}
    for wrong in (
        ["add", "seventeen letters"],
        ["add", "CT 1", "--from", "10.1.0.0/16"],
        ["add", "X", "--from", "10.1.2.3/16"],
        ["add", "X", "--certificate", "ab:cd"],
        ["add", "X", "--site", "a\\b"],
        ["add", "BAD", "--at", "nowhere"],
        ["remove", "NOBODY"],
        ["echo", "NOBODY"],
    ):
        assert main(["peers", *wrong]) == 1, wrong
    capsys.readouterr()
    assert main(["peers", "add", "BAD", "--at", "nowhere"]) == 1
    assert "--at: 'nowhere' is not HOST:PORT" in capsys.readouterr().err
    assert main(["peers", "remove", "CT 1"]) == 0 and main(["peers", "list"]) == 0
