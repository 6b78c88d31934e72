"""Who waits at a queue of pgmq is woken by a message, need not look often, and holds nobody up."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from typing import Any

import psycopg
import pytest
from celery import Celery
from kombu.entity import Queue
from kombu.messaging import Consumer
from psycopg.conninfo import make_conninfo

from radir_pacs.catalogue import Catalogue, notifies
from radir_pacs.config import Settings
from radir_workers.app import TRANSFER_QUEUE, hear, make_app

_TABLE = f"pgmq.q_{TRANSFER_QUEUE}"
_LOOKED = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND state = 'idle' AND query = 'COMMIT' AND state_change > %s
"""  # a transaction of the client's pool ended since


def send(app: Celery) -> None:
    with app.producer_pool.acquire() as producer:
        producer.publish({"job": 7}, routing_key=TRANSFER_QUEUE)


def receive(app: Celery, waits: Event) -> list[Any]:
    """The next message to a consumer that starts now; it looks by itself after a minute, or often if nobody tells."""
    heard: list[Any] = []
    app.conf.broker_transport_options |= {"polling_interval": 600}
    with (
        app.connection_for_read() as connection,  # as a worker's
        Consumer(connection, [Queue(TRANSFER_QUEUE)], callbacks=[lambda body, _: heard.append(body)]),
    ):
        waits.set()
        connection.drain_events(timeout=60)
    return heard


def hears_what_is_sent(settings: Settings, catalogue: Catalogue) -> bool:
    """Whether a consumer starts, hears of a message that is sent then, and all that in less than 20 seconds each."""
    waiting, sending = (make_app(settings, catalogue) for _ in range(2))
    hear(waiting)
    deadline, waits, pool = time.monotonic() + 20, Event(), ThreadPoolExecutor(2)
    try:
        with psycopg.connect(catalogue.conninfo, autocommit=True) as database:
            received = pool.submit(receive, waiting, waits)
            assert waits.wait(20), "the consumer does not start"
            ((began,),) = database.execute("SELECT clock_timestamp()").fetchall()
            while not database.execute(_LOOKED, [began]).fetchall()[0][0] and not received.done():
                assert time.monotonic() < deadline, "it does not look for a first message"
                time.sleep(0.01)
            pool.submit(send, sending).result(20)
            return received.result(20) == [{"job": 7}]  # by looking it would come after 60 seconds
    finally:
        pool.shutdown(wait=False)


def told(catalogue: Catalogue) -> bool:
    """Whether each message is told by NOTIFY, rather than found by looking often."""
    with psycopg.connect(catalogue.conninfo) as database:
        has_trigger = database.execute("SELECT FROM pg_trigger WHERE tgrelid = %s::regclass", [_TABLE]).rowcount
        rows = database.execute("SELECT queue_name, throttle_interval_ms FROM pgmq.notify_insert_throttle").fetchall()
    return bool(has_trigger) and rows == [(TRANSFER_QUEUE, 0)]


@pytest.fixture
def queue(catalogue: Catalogue, settings: Settings) -> None:
    """The queue is there, and nobody has waited at it yet."""
    with make_app(settings, catalogue).connection() as connection:
        Queue(TRANSFER_QUEUE, channel=connection.default_channel).declare()


def test_a_message_wakes_who_waits(catalogue: Catalogue, settings: Settings) -> None:
    assert hears_what_is_sent(settings, catalogue)
    assert told(catalogue)


@pytest.mark.parametrize("hears", [False, True])
def test_connections_to_the_broker_are_those_of_database_url(
    catalogue: Catalogue, settings: Settings, hears: bool
) -> None:
    """With its sslmode, for example: pgmq's own client keeps five words of it, and takes postgres for no user."""
    settings = replace(settings, database_url=make_conninfo(settings.database_url, application_name="as_said"))
    with Catalogue.open(settings) as said, psycopg.connect(catalogue.conninfo, autocommit=True) as database:
        app = make_app(settings, said)
        if hears:
            hear(app)
        before = names(database)
        with app.connection_for_read() as connection, Consumer(connection, [Queue(TRANSFER_QUEUE)]) as consumer:
            consumer.purge()
            made = names(database) - before
    assert set(made) == {"as_said"}, made


def names(database: psycopg.Connection) -> Counter[str]:
    """Of the connections to this database."""
    found = database.execute("SELECT application_name FROM pg_stat_activity WHERE datname = current_database()")
    return Counter(name for (name,) in found.fetchall())


@pytest.mark.usefixtures("queue")
def test_a_dump_of_the_queue_holds_up_neither_who_starts_nor_who_sends(
    catalogue: Catalogue, settings: Settings
) -> None:
    """The first consumer makes the trigger, the second finds it."""
    with psycopg.connect(catalogue.conninfo) as dump:
        dump.execute(f"LOCK TABLE {_TABLE}, pgmq.notify_insert_throttle, pgmq.meta IN ACCESS SHARE MODE".encode())
        for _ in range(2):
            assert hears_what_is_sent(settings, catalogue)
            assert told(catalogue)


@pytest.mark.usefixtures("queue")
@pytest.mark.parametrize(
    "lacking",
    [
        "DROP FUNCTION pgmq.enable_notify_insert; DROP FUNCTION pgmq.notify_queue_listeners",
        "DROP TABLE pgmq.notify_insert_throttle CASCADE",
    ],
)
def test_an_earlier_pgmq_is_looked_at_often(catalogue: Catalogue, settings: Settings, lacking: str) -> None:
    with psycopg.connect(catalogue.conninfo) as database:
        database.execute(lacking.encode())
    assert hears_what_is_sent(settings, catalogue)


@pytest.mark.usefixtures("queue")
def test_a_queue_that_cannot_be_locked_is_left_to_who_connects_later(catalogue: Catalogue) -> None:
    """Somebody sends for a long time."""
    with psycopg.connect(catalogue.conninfo) as connection:
        with psycopg.connect(catalogue.conninfo) as sends:
            sends.execute(f"LOCK TABLE {_TABLE} IN ROW EXCLUSIVE MODE".encode())
            assert not notifies(connection, TRANSFER_QUEUE)
            sends.execute("SELECT pgmq.send(%s, '{}')", [TRANSFER_QUEUE])
        assert notifies(connection, TRANSFER_QUEUE)


@pytest.mark.usefixtures("queue")
def test_after_a_crash_each_message_is_told_again(catalogue: Catalogue, settings: Settings) -> None:
    """Postgres then empties what is UNLOGGED."""
    assert hears_what_is_sent(settings, catalogue)
    with psycopg.connect(catalogue.conninfo) as database:
        database.execute("TRUNCATE pgmq.notify_insert_throttle")
    assert not told(catalogue)
    assert hears_what_is_sent(settings, catalogue)
    assert told(catalogue)
