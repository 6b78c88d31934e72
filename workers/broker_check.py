"""``python -m radir_workers.broker_check``: prints why the broker of the settings cannot be used, if it cannot.

In a process of its own, since a supervisor has no use for the libraries of brokers.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from kombu.connection import Connection

from radir_pacs import config

_CONNECT_S = 3.0


def silence(url: str) -> str:
    """The broker's address and what it says, without the password; empty where it lets us in."""
    connection: Any = Connection(  # type: ignore[no-untyped-call]
        url, connect_timeout=_CONNECT_S, transport_options={"socket_connect_timeout": _CONNECT_S}
    )
    try:
        with connection:
            connection.ensure_connection(max_retries=1)
            connection.default_channel.close()
    except Exception as error:  # of whatever library the broker needs
        said = " ".join(str(error).split()) or type(error).__name__
        for secret in {connection.password, unquote(connection.password or "")} - {None, ""}:
            said = said.replace(secret, "***")
        place = f"{connection.hostname}:{connection.port}" if connection.port else connection.hostname
        return f"the broker at {place} cannot be used: {said}"
    return ""


if __name__ == "__main__":
    print(silence(config.load().broker_url))
