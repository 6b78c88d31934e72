"""``python -m radir_workers.broker_check``: prints why the broker of the settings cannot be used, if it cannot.

In a process of its own, since a supervisor has no use for the libraries of brokers.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

from kombu.connection import Connection

from radir_pacs import config

_ANSWER_S = 3.0
# Of Redis to connect and to answer; AMQP's client takes connect_timeout for both.
_REDIS = {"socket_connect_timeout": _ANSWER_S, "socket_timeout": _ANSWER_S}


def silence(url: str) -> str:
    """The broker's address and what it says, without the password; empty where it lets us in."""
    options = _REDIS if url.lower().startswith("redis") else {}
    try:
        connection: Any = Connection(url, connect_timeout=_ANSWER_S, transport_options=options)  # type: ignore[no-untyped-call]
        host, port = connection.hostname, connection.port
    except Exception as error:  # whose text may quote the password
        return f"the broker cannot be used: broker_url is not understood ({type(error).__name__})"
    try:
        with connection:
            connection.ensure_connection(max_retries=1)
            connection.default_channel.close()
    except Exception as error:  # of whatever library the broker needs
        said = " ".join(str(error).split()) or type(error).__name__
        for secret in _secrets(url):
            said = said.replace(secret, "***")
        return f"the broker at {f'{host}:{port}' if port else host} cannot be used: {said}"
    return ""


def _secrets(url: str) -> list[str]:
    """The passwords of all its brokers, as written and as meant, the longest first."""
    written = {urlsplit(one).password or "" for one in url.split(";")}
    return sorted((written | set(map(unquote, written))) - {""}, key=len, reverse=True)


if __name__ == "__main__":
    print(silence(config.load().broker_url))
