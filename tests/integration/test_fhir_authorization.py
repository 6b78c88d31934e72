"""SMART Backend Services against a scripted authorization server that checks each assertion as the standards say."""

from __future__ import annotations

import argparse
import base64
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from joserfc import jwk

from radir_pacs import cli
from radir_pacs.catalogue import Catalogue
from radir_pacs.cli.pull_fhir import _authorization
from radir_pacs.config import Settings
from radir_pacs.errors import PeerFailed, SettingError
from radir_pacs.intake.fhir_authorization import (
    WELL_KNOWN,
    SigningKey,
    SmartAuthorization,
    new_key,
    public_keys,
    read_key,
)
from radir_pacs.intake.fhir_pull import FhirPull
from tests.fhir_server import Request, Server, page, scripted
from tests.integration.test_web_fhir import resource

DISCOVERED = {
    "token_endpoint": "HERE/token",
    "grant_types_supported": ["client_credentials"],
    "token_endpoint_auth_methods_supported": ["private_key_jwt"],
    "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
}
RSA_PEM = rsa.generate_private_key(65537, 2048).private_bytes(
    Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
)
EC_PEM = new_key()


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def check_assertion(request: Request, server: Server, public: Any, algorithm: str) -> dict[str, Any]:
    """The claims of a request for a token, whose form and signature are right; read without the library that signs."""
    form = {name: value for name, (value,) in parse_qs(request.body, strict_parsing=True).items()}
    assert form.pop("grant_type") == "client_credentials" and form.pop("scope") == "system/DiagnosticReport.rs"
    assert form.pop("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    head, body, signature = form.pop("client_assertion").split(".")
    assert form == {} and request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    said = json.loads(decoded(head))
    assert (said["typ"], said["alg"], bool(said["kid"])) == ("JWT", algorithm, True)
    raw, signed = decoded(signature), f"{head}.{body}".encode()
    if isinstance(public, rsa.RSAPublicKey):
        public.verify(raw, signed, padding.PKCS1v15(), hashes.SHA384())
    else:
        r, s = (int.from_bytes(half) for half in (raw[: len(raw) // 2], raw[len(raw) // 2 :]))
        public.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA384()))
    claims: dict[str, Any] = json.loads(decoded(body))
    assert claims["iss"] == claims["sub"] == "radir" and claims["aud"] == server.url + "/token"
    assert 0 < claims["exp"] - time.time() <= 300
    return claims | {"kid": said["kid"]}


def token(word: str, **said: Any) -> tuple[int, dict[str, str], Any]:
    return 200, {}, {"access_token": word, "token_type": "bearer", "expires_in": 300, **said}


def bearer(request: Request) -> str:
    return request.headers.get("Authorization", "")


def public_of(pem: bytes) -> Any:
    return load_pem_private_key(pem, None).public_key()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def key_in(folder: Path, pem: bytes = EC_PEM) -> SigningKey:
    (folder / "client.key").write_bytes(pem)
    return read_key(folder / "client.key")


def smart(server: Server, key: SigningKey, **said: Any) -> SmartAuthorization:
    scope = "system/DiagnosticReport.rs"
    return SmartAuthorization(server.url, client_id="radir", key=key, scope=scope, wait=lambda _: None, **said)


@pytest.mark.parametrize(("pem", "algorithm"), [(RSA_PEM, "RS384"), (EC_PEM, "ES384")])
def test_a_pull_by_a_signed_assertion(catalogue: Catalogue, tmp_path: Path, pem: bytes, algorithm: str) -> None:
    """Two pages by one token, which is kept until shortly before it expires; no assertion is used twice."""
    key, clock = key_in(tmp_path, pem), Clock()
    script = [
        (200, {}, DISCOVERED),
        (503, {}, b""),
        token("one"),
        (200, {}, page(resource(), following="HERE/page2")),
        (200, {}, page()),
        (200, {}, page()),
        (200, {}, DISCOVERED),
        token("two"),
        (200, {}, page()),
    ]
    with scripted(*script) as server:
        pull = FhirPull(server.url, catalogue.report_versions, tmp_path, authorization=smart(server, key, clock=clock))
        assert pull.run().pages == 2
        clock.now = 269
        pull.run()
        clock.now = 271  # it lasts until 300, less half a minute for what is on its way
        pull.run()
    told = [(request.path.partition("?")[0].removeprefix("/r4/"), bearer(request)) for request in server.asked]
    asks = [(WELL_KNOWN, ""), ("token", "")]
    assert told == [
        *asks,
        asks[1],
        ("DiagnosticReport", "Bearer one"),
        ("page2", "Bearer one"),
        ("DiagnosticReport", "Bearer one"),
        *asks,
        ("DiagnosticReport", "Bearer two"),
    ]
    tokens = [request for request in server.asked if request.path == "/r4/token"]
    claims = [check_assertion(request, server, public_of(pem), algorithm) for request in tokens]
    assert len({claim["jti"] for claim in claims}) == 3 and {claim["kid"] for claim in claims} == {key.kid}


def test_a_token_that_is_taken_no_longer_is_renewed_once(catalogue: Catalogue, tmp_path: Path) -> None:
    key = key_in(tmp_path)
    first = [(200, {}, DISCOVERED), token("one"), (401, {}, b""), (200, {}, DISCOVERED), token("two")]
    for last, words in (((200, {}, page()), None), ((401, {}, b""), "401")):
        with scripted(*first, last) as server:
            pull = FhirPull(server.url, catalogue.report_versions, tmp_path, authorization=smart(server, key))
            if words is None:
                assert pull.run().pages == 1
            else:
                with pytest.raises(PeerFailed, match=words):
                    pull.run()
        assert [bearer(request) for request in server.asked if "Diagnostic" in request.path] == [
            "Bearer one",
            "Bearer two",
        ]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([(404, {}, b"")], "names no token endpoint"),
        ([(200, {}, {"issuer": "x"})], "names no token endpoint"),
        ([(302, {"Location": "http://192.0.2.1/"}, b"")], "names no token endpoint"),
        ([(200, {}, {"token_endpoint": "file:///etc/passwd"})], "no https address"),
        (
            [(200, {}, DISCOVERED | {"token_endpoint_auth_signing_alg_values_supported": ["HS256", "none"]})],
            "fhir_client_key",
        ),
        (
            [(200, {}, DISCOVERED), (400, {}, {"error": "invalid_client", "error_description": "Jane"})],
            "invalid_client",
        ),
        ([(200, {}, DISCOVERED), (400, {}, {"error": "Jane Doe\n"})], "answered 400$"),
        ([(200, {}, DISCOVERED), (200, {}, {"access_token": "t", "token_type": "mac"})], "no bearer token"),
        ([(200, {}, DISCOVERED), token("two\r\nX-Injected: 1")], "no bearer token"),
        ([(200, {}, DISCOVERED), (200, {}, b"<html>")], "no bearer token"),
        ([(200, {}, DISCOVERED), (307, {"Location": "http://192.0.2.1/"}, b"")], "307"),
        ([(200, {}, DISCOVERED), *[(503, {}, b"")] * 5], "5 attempts"),
    ],
)
def test_a_server_that_misbehaves_gets_no_request_of_ours(answers: list[Any], words: str, tmp_path: Path) -> None:
    with scripted(*answers) as server, pytest.raises(PeerFailed, match=words) as refused:
        smart(server, key_in(tmp_path)).headers()
    assert "Jane" not in str(refused.value) and server.script == []


@pytest.mark.parametrize("lasts", [None, "soon", -1, 1e300])
def test_a_token_without_a_usable_time_lasts_five_minutes(lasts: Any, tmp_path: Path) -> None:
    clock = Clock()
    with scripted((200, {}, DISCOVERED), token("one", expires_in=lasts)) as server:
        authorization = smart(server, key_in(tmp_path), clock=clock)
        authorization.headers()
        clock.now = 269
        assert authorization.headers() == {"Authorization": "Bearer one"}


def test_a_key_is_a_pem_or_a_jwk(tmp_path: Path) -> None:
    pem = key_in(tmp_path)
    as_jwk = jwk.ECKey.import_key(EC_PEM).as_dict(private=True)
    assert key_in(tmp_path, json.dumps(as_jwk).encode()).kid == pem.kid == pem.thumbprint()
    assert key_in(tmp_path, json.dumps(as_jwk | {"kid": "ours"}).encode()).kid == "ours"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nothing",
        b'{"kty": "oct", "k": "c2VjcmV0"}',
        b"[" * 5000,
        b'{"kty": "EC"}',
        ec.generate_private_key(ec.SECP384R1())
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        ec.generate_private_key(ec.SECP256K1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        rsa.generate_private_key(65537, 1024).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    ],
)
def test_a_key_that_signs_nothing_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="fhir_client_key"):
        key_in(tmp_path, content)


def test_the_command_makes_a_key_and_tells_its_public_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "client.key"
    told = []
    for _ in range(2):
        assert cli.main(["fhir-key", "--home", str(tmp_path), "--fhir-client-key", str(file)]) == 0
        told.append(capsys.readouterr())
    assert [bool(one.err) for one in told] == [True, False] and file.stat().st_mode & 0o777 == 0o600
    one, other = (json.loads(said.out) for said in told)
    assert one == other == public_keys(read_key(file))
    assert set(one["keys"][0]) == {"kty", "crv", "x", "y", "kid", "use", "alg", "key_ops"}, "nothing private"


def test_settings_choose_the_authorization(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "client.key").write_bytes(EC_PEM)
    (tmp_path / "header").write_text("Bearer t\n")
    said = argparse.Namespace(url="https://fhir.example/r4", authorization_file=None)
    assert _authorization(said, settings).headers() == {}
    by_key = replace(settings, fhir_client_id="radir", fhir_client_key=str(tmp_path / "client.key"))
    assert isinstance(_authorization(said, by_key), SmartAuthorization)
    with pytest.raises(SettingError, match="fhir_client_key"):
        _authorization(said, replace(by_key, fhir_client_key=str(tmp_path / "none")))
    said.authorization_file = tmp_path / "header"
    assert _authorization(said, by_key).headers() == {"Authorization": "Bearer t"}
