"""So many requests a minute for each account, token and link, whichever process answers."""

from __future__ import annotations

import errno
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from radir_pacs import metrics
from radir_pacs.callers import Role
from radir_pacs.catalogue import Catalogue
from radir_pacs.web.rate_limit import RateLimit
from tests.accounts_material import Browser, add_account
from tests.catalogue_material import TESTER
from tests.integration.conftest import Web
from tests.integration.test_tokens import bearing, clear


def test_who_asks_too_often_waits_and_nobody_else(serve: Callable[..., Web], catalogue: Catalogue) -> None:
    add_account(catalogue)
    tokens = {name: catalogue.access_tokens.create(name, Role.RADIOLOGIST, by=TESTER) for name in ("busy", "calm")}
    web = serve(rate_limit=20)

    def asked(name: str) -> requests.Response:
        return requests.get(web.root + "/api/regions", headers=bearing(tokens[name]), timeout=30)

    answers = [asked("busy") for _ in range(25)]
    assert [answer.status_code for answer in answers][:20] == [200] * 20
    late = answers[-1]
    assert (late.status_code, late.json()["error"]["code"]) == (429, "too_many_requests")
    assert 1 <= int(late.headers["Retry-After"]) <= 3
    assert asked("calm").status_code == 200
    first, second = Browser(web.root), Browser(web.root)
    for browser in (first, second):
        assert browser.sign_in().status_code == 303
    statuses = [browser.see("/account").status_code for browser in (first, second) for _ in range(15)]
    assert statuses.count(200) == 20, "all browsers of an account count together"
    page = first.see("/account")
    assert page.status_code == 429 and page.headers["Content-Type"].startswith("text/html")
    for _ in range(30):
        assert requests.get(web.root + "/health/live", headers=bearing(tokens["busy"]), timeout=30).status_code == 200


def test_no_limit_is_none(serve: Callable[..., Web], catalogue: Catalogue) -> None:
    token = catalogue.access_tokens.create("reader", Role.RADIOLOGIST, by=TESTER)
    web = serve(rate_limit=0)
    clear(web)
    assert requests.get(web.root + "/api/regions", headers=bearing(token), timeout=30).status_code == 200


def test_processes_of_one_start_share_a_file_on_this_machine(
    serve: Callable[..., Web], catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = catalogue.access_tokens.create("reader", Role.RADIOLOGIST, by=TESTER)
    monkeypatch.setenv(metrics.SHARED, str(tmp_path))
    web = serve(rate_limit=20)
    clear(web)
    assert requests.get(web.root + "/api/regions", headers=bearing(token), timeout=30).status_code == 200
    assert (tmp_path / "web.rates").exists() and not (web.settings.home / "web.rates").exists()


def test_a_full_disk_neither_ends_the_process_nor_refuses_anybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def is_full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", is_full)
        limit = RateLimit(tmp_path / "rates", 1)
        assert [limit.wait_s("reader") for _ in range(3)] == [0.0] * 3
    assert [record.getMessage() for record in caplog.records] == ["requests are not limited"]
    assert [bool(limit.wait_s("reader")) for _ in range(2)] == [False, True], "when there is room again"


def test_a_process_alone_needs_no_file() -> None:
    limit = RateLimit(None, 1)
    assert [bool(limit.wait_s("reader")) for _ in range(2)] == [False, True]


def test_what_was_not_used_comes_back_with_time(tmp_path: Path) -> None:
    now_s = 1000.0
    limit = RateLimit(tmp_path / "rates", 60, clock_s=lambda: now_s)
    assert not any(limit.wait_s("reader") for _ in range(60))
    assert limit.wait_s("reader") == pytest.approx(1.0)
    now_s += 10
    assert sum(not limit.wait_s("reader") for _ in range(20)) == 10
    now_s = 5.0  # the machine started anew: its clock begins again
    assert not limit.wait_s("reader")


def _ask(
    path: Path, count: int, begin: multiprocessing.synchronize.Event, admitted: multiprocessing.Queue[int]
) -> None:
    limit = RateLimit(path, 1000)
    begin.wait(30)
    admitted.put(sum(not limit.wait_s("reader") for _ in range(count)))


def test_processes_count_together(tmp_path: Path) -> None:
    spawned = multiprocessing.get_context("spawn")
    begin, admitted = spawned.Event(), spawned.Queue()
    path = tmp_path / "rates"
    processes = [spawned.Process(target=_ask, args=(path, 2000, begin, admitted)) for _ in range(3)]
    for process in processes:
        process.start()
    began = time.monotonic()
    begin.set()
    total = sum(admitted.get(timeout=60) for _ in processes)
    most = 1000 + 1000 / 60 * (time.monotonic() - began) + 1
    assert 1000 <= total <= most
    for process in processes:
        process.join(30)


def test_more_callers_than_slots_are_still_limited(tmp_path: Path) -> None:
    limit = RateLimit(tmp_path / "rates", 5)
    for number in range(40_000):
        limit.wait_s(f"caller {number}")
    assert [bool(limit.wait_s("reader")) for _ in range(7)] == [False] * 5 + [True] * 2
    assert (tmp_path / "rates").stat().st_mode & 0o777 == 0o600


def test_a_request_pays_little_for_it(tmp_path: Path) -> None:
    limit = RateLimit(tmp_path / "rates", 1_000_000)
    began = time.process_time()
    for _ in range(5000):
        limit.wait_s("radiologist meyer")
    assert (time.process_time() - began) / 5000 < 0.000_2
