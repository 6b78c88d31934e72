"""DICOM over TLS, with DCMTK and pynetdicom: who is let in, by which certificate, and that nothing else changes."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from radir_pacs.catalogue import Catalogue, Peer
from radir_pacs.config import Settings
from radir_pacs.delivery.destination import Destination
from radir_pacs.delivery.echo import echo
from radir_pacs.errors import PeerFailed, SettingError
from radir_pacs.listener import tls_door
from tests.catalogue_material import TESTER
from tests.conftest import free_port
from tests.dicom_files import radiograph
from tests.integration.listening import refusals, wait_for
from tests.integration.test_listener import save
from tests.services import need

Listen = Callable[..., Destination]
_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Identity:
    """A certificate with its key, as files."""

    name: str
    certificate: Path
    key: Path
    sha256: str


class Authority:
    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / f"{name}.pem"
        self._certificate = self._signed(name, self._key.public_key(), is_authority=True)
        self.file.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def issue(self, name: str, *, ended: bool = False) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._signed(name, key.public_key(), ended=ended)
        paths = self._folder / f"{self._name}-{name}.crt", self._folder / f"{self._name}-{name}.key"
        paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
        return Identity(name, *paths, certificate.fingerprint(hashes.SHA256()).hex())

    def _signed(
        self, name: str, key: ec.EllipticCurvePublicKey, *, is_authority: bool = False, ended: bool = False
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._name)])
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 3 * _DAY)
            .not_valid_after(now - _DAY if ended else now + _DAY)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(self._key, hashes.SHA256())
        )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("house"), "house")


@pytest.fixture
def door(listen: Listen, house: Authority) -> Callable[..., Destination]:
    """A function that starts a listener with a TLS port and gives its destination there."""

    def start(**changes: object) -> Destination:
        own = house.issue("radir")
        port = free_port()
        settings = {
            "listener_tls_port": port,
            "listener_tls_certificate": str(own.certificate),
            "listener_tls_key": str(own.key),
            "listener_tls_client_ca": str(house.file),
        }
        plain = listen(**settings | changes)
        return Destination(ae_title=plain.ae_title, host=plain.host, port=port)

    return start


def context(house: Authority, identity: Identity | None = None, **bounds: ssl.TLSVersion) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=house.file)
    made.check_hostname = False
    if identity:
        made.load_cert_chain(identity.certificate, identity.key)
    for name, version in bounds.items():
        setattr(made, name, version)
    return made


def answers(peer: Destination, tls: ssl.SSLContext | None, calling: str = "MODALITY") -> bool:
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.network_timeout = ae.connection_timeout = 5
    ae.add_requested_context(Verification)
    association = ae.associate(peer.host, peer.port, ae_title=peer.ae_title, tls_args=(tls, peer.host) if tls else None)
    if not association.is_established:
        return False
    status = association.send_c_echo().get("Status")
    association.release()
    return status == 0


def test_dcmtk_stores_over_tls(
    door: Callable[..., Destination], house: Authority, catalogue: Catalogue, tmp_path: Path
) -> None:
    storescu, peer, modality = need("storescu"), door(), house.issue("modality")
    files = [save(radiograph(StudyInstanceUID="2.25.7"), tmp_path / f"{number}.dcm") for number in range(3)]
    command = [storescu, "+tls", str(modality.key), str(modality.certificate), "+cf", str(house.file)]
    subprocess.run(
        [*command, "-aec", peer.ae_title, peer.host, str(peer.port), *map(str, files)],
        check=True,
        env=os.environ | {"TCP_NODELAY": "1"},
        timeout=60,
    )
    assert catalogue.studies.get("2.25.7").instance_count == 3


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_are_spoken(door: Callable[..., Destination], house: Authority, version: ssl.TLSVersion) -> None:
    bounds = {"minimum_version": version, "maximum_version": version}
    assert answers(door(), context(house, house.issue("modality"), **bounds))


def test_who_never_begins_to_speak_keeps_nobody_out(
    door: Callable[..., Destination], house: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_door, "_MOST_AT_ONCE", 3)
    there, tls = door(), context(house, house.issue("scanner"))
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection((there.host, there.port))) for _ in range(3)]
        assert answers(there, tls)
        silent[0].settimeout(5)
        assert silent[0].recv(1) == b"", "the oldest made room"


def test_who_comes_before_the_thread_has_begun_is_let_in(
    door: Callable[..., Destination], house: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listener that says it is ready refuses no connection, however late its thread is given a processor."""
    begin, run = threading.Event(), tls_door.TlsDoor._run

    def late(door: tls_door.TlsDoor) -> None:
        begin.wait(30)
        run(door)

    monkeypatch.setattr(tls_door.TlsDoor, "_run", late)
    there = door()
    try:
        waiting = socket.create_connection((there.host, there.port))
    finally:
        begin.set()
    with waiting:
        assert answers(there, context(house, house.issue("early")))


def test_who_is_not_trusted_is_not_let_in(
    door: Callable[..., Destination], house: Authority, catalogue: Catalogue, tmp_path: Path
) -> None:
    peer, stranger = door(), Authority(tmp_path, "stranger")
    weak = context(house, house.issue("old"))
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("ECDHE-ECDSA-AES256-SHA384:AES128-SHA:@SECLEVEL=0")
    for wrong in (
        context(house),
        context(house, stranger.issue("modality")),
        context(house, house.issue("modality", ended=True)),
        weak,
        None,
    ):
        assert not answers(peer, wrong)
    wait_for(lambda: len([reason for reason in refusals(catalogue) if "no TLS connection" in reason]) >= 1)
    assert answers(peer, context(house, house.issue("modality")))


def test_without_an_authority_no_certificate_is_asked_for(door: Callable[..., Destination], house: Authority) -> None:
    peer = door(listener_tls_client_ca="")
    assert answers(peer, context(house))
    assert not answers(peer, None), "the port for TLS serves nothing else"


def test_a_certificate_that_was_replaced_is_used_at_once(
    door: Callable[..., Destination], house: Authority, tmp_path: Path
) -> None:
    """Without a restart; a file that cannot be read leaves the one before in force."""
    own, other = house.issue("first"), Authority(tmp_path, "other")
    files = {"listener_tls_certificate": tmp_path / "own.crt", "listener_tls_key": tmp_path / "own.key"}

    def install(identity: Identity) -> None:
        files["listener_tls_key"].write_bytes(identity.key.read_bytes())
        files["listener_tls_certificate"].write_bytes(identity.certificate.read_bytes())

    install(own)
    peer = door(**{name: str(path) for name, path in files.items()}, listener_tls_client_ca="")
    assert answers(peer, context(house)) and not answers(peer, context(other))
    install(other.issue("second"))
    assert answers(peer, context(other)) and not answers(peer, context(house))
    files["listener_tls_certificate"].write_text("half a certificate")
    assert answers(peer, context(other))


def test_the_plain_port_may_be_closed(door: Callable[..., Destination], house: Authority) -> None:
    plain = free_port()
    peer = door(listener_plain=False, listener_port=plain)
    assert answers(peer, context(house, house.issue("modality")))
    assert not answers(Destination(ae_title="RADIR", host=peer.host, port=plain), None)
    with pytest.raises(SettingError, match="listener_tls_port"):
        Settings(listener_plain=False)
    with pytest.raises(SettingError, match="listener_tls_certificate"):
        Settings(listener_tls_port=1)


def test_a_peer_is_known_by_its_certificate(
    door: Callable[..., Destination], house: Authority, catalogue: Catalogue
) -> None:
    one, two, three = (house.issue(name) for name in ("one", "two", "three"))
    catalogue.peers.add(Peer(ae_title="CT", certificate=f"sha256:{one.sha256}"), by=TESTER)
    catalogue.peers.add(Peer(ae_title="MR", certificate="CN=two"), by=TESTER)
    peer = door()
    for calling, identity, is_admitted in (
        ("CT", one, True),
        ("CT", two, False),
        ("MR", two, True),
        ("MR", three, False),
        ("US", one, False),
    ):
        assert answers(peer, context(house, identity), calling) == is_admitted, (calling, identity.name)


def test_our_echo_over_tls(door: Callable[..., Destination], house: Authority, settings: Settings) -> None:
    peer, own = door(), house.issue("caller")
    calling = Settings(
        home=settings.home,
        listener_tls_client_ca=str(house.file),
        listener_tls_certificate=str(own.certificate),
        listener_tls_key=str(own.key),
    )
    echo(peer, calling, over_tls=True)
    with pytest.raises(PeerFailed):
        echo(peer, calling)
    with pytest.raises(PeerFailed):
        echo(peer, Settings(home=settings.home), over_tls=True)
