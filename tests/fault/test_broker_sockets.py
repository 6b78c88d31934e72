"""A broker whose machine lost power is missed within seconds: by the kernel, which gives up what it cannot deliver."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_workers.app import make_app
from tests.fault.brokers import broker


@pytest.mark.parametrize("kind", ["redis", "amqp"])
def test_the_kernel_gives_up_a_silent_broker(kind: str, catalogue: Catalogue, settings: Settings) -> None:
    with broker(kind) as url:
        app = make_app(replace(settings, broker_url=url), catalogue)
        with app.connection_for_write() as connection:
            if kind == "redis":
                used = connection.default_channel.client.connection_pool.get_connection()
                connected: socket.socket = used._sock
            else:
                connected = connection.connection.transport.sock
            of_tcp = {
                name: connected.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                for name in ("TCP_USER_TIMEOUT", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
            }
            assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert of_tcp == {
                "TCP_USER_TIMEOUT": 15_000,
                "TCP_KEEPIDLE": 6,
                "TCP_KEEPINTVL": 3,
                "TCP_KEEPCNT": 3,
            }
