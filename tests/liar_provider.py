"""A provider that says whatever a test wants it to: what the certified one never says."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey

CLIENT = "radir"


class LiarProvider:
    """``claims`` and ``header`` replace those of the next ID tokens; None leaves a claim out."""

    def __init__(self, port: int) -> None:
        self.issuer = f"http://127.0.0.1:{port}"
        self.key = ECKey.generate_key("P-256", {"kid": "one"})
        self.stranger = ECKey.generate_key("P-256", {"kid": "one"})
        self.claims: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.signs_with = self.key
        self.metadata: dict[str, Any] = {}
        self.user_info: dict[str, Any] | None = None
        self.asked: list[str] = []
        self.tokens: list[dict[str, list[str]]] = []
        self.nonce = ""

    def returns(self, sent_to: str, **parameters: str) -> str:
        """The query with which the browser comes back that was sent to this address."""
        asked = parse_qs(urlsplit(sent_to).query)
        self.nonce = asked["nonce"][0]
        return urlencode({"state": asked["state"][0], "code": "a code", "iss": self.issuer} | parameters)

    def id_token(self) -> str:
        now = int(time.time())
        claims = {"iss": self.issuer, "sub": "4711", "aud": CLIENT, "exp": now + 300, "iat": now, "nonce": self.nonce}
        claims |= {"groups": ["radiology-north"], "preferred_username": "meyer"} | self.claims
        claims = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": "ES256", "kid": "one"} | self.header
        if header["alg"] == "ES256":
            return jwt.encode(header, claims, self.signs_with, algorithms=["ES256"])
        said = b".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
        signature = b""
        if header["alg"] == "HS256":  # our public key as the secret: the classic confusion of algorithms
            signature = hmac.digest(self.key.as_pem(private=False), said, "sha256")
        return (said + b"." + _base64(signature)).decode()

    def answer(self, path: str, form: dict[str, list[str]]) -> Any:
        self.asked.append(path)
        match path:
            case "/.well-known/openid-configuration":
                ends = {"authorization_endpoint": "auth", "token_endpoint": "token", "jwks_uri": "jwks"}
                if self.user_info is not None:
                    ends["userinfo_endpoint"] = "me"
                return {"issuer": self.issuer} | {k: f"{self.issuer}/{v}" for k, v in ends.items()} | self.metadata
            case "/jwks":
                return {"keys": [self.key.as_dict(private=False)]}
            case "/token":
                self.tokens.append(form)
                return {"access_token": "opaque", "token_type": "Bearer", "id_token": self.id_token()}
            case "/me":
                return self.user_info
        return {}


def _base64(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")


@contextmanager
def lying(port: int) -> Iterator[LiarProvider]:
    liar = LiarProvider(port)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            self._answer(parse_qs(self.rfile.read(length).decode()))

        def _answer(self, form: dict[str, list[str]]) -> None:
            body = json.dumps(liar.answer(urlsplit(self.path).path, form)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield liar
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
