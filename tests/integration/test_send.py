"""Sending files by C-STORE: nothing waits in the socket."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from pynetdicom.association import Association

from radir_pacs.delivery.send import send_files
from tests.integration.test_return_to_pacs import peer, scp
from tests.sr_material import report


def test_a_file_does_not_wait_for_tcp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nagle's wait for an acknowledgement is off while files go out: it cost 40 ms a file."""
    at_once: list[int] = []
    send_c_store = Association.send_c_store

    def watched(association: Association, path: Any) -> Any:
        connection = association.dul.socket
        assert connection is not None and connection.socket is not None
        at_once.append(connection.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return send_c_store(association, path)

    monkeypatch.setattr(Association, "send_c_store", watched)
    paths = [tmp_path / f"{name}.dcm" for name in ("one", "two")]
    for path in paths:
        report().save_as(path, enforce_file_format=True)
    with scp() as (port, got):
        results = send_files(paths, peer(port))
    assert [result.status for result in results] == [0x0000, 0x0000]
    assert len(got) == 2
    assert len(at_once) == 2 and all(at_once)
