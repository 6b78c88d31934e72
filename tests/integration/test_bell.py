"""Who waits at a queue of pgmq is woken by a message, and need not look often."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
from kombu.entity import Queue
from kombu.messaging import Consumer

from radir_pacs.catalogue import Catalogue
from radir_pacs.config import Settings
from radir_workers.app import TRANSFER_QUEUE, hear, make_app

_LOOKED = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND state = 'idle' AND query = 'COMMIT' AND state_change > %s
"""  # a transaction of the client's pool ended since


def test_a_message_wakes_who_waits(catalogue: Catalogue, settings: Settings) -> None:
    heard: list[Any] = []
    waiting, sending = (make_app(settings, catalogue) for _ in range(2))
    hear(waiting)
    deadline = time.monotonic() + 60
    waiting.conf.broker_transport_options |= {"polling_interval": 600}
    with waiting.connection() as connection, ThreadPoolExecutor(1) as pool:
        consumer = Consumer(connection, [Queue(TRANSFER_QUEUE)], callbacks=[lambda body, _: heard.append(body)])
        with consumer, psycopg.connect(catalogue.conninfo, autocommit=True) as database:
            ((began,),) = database.execute("SELECT clock_timestamp()").fetchall()
            drained = pool.submit(connection.drain_events, timeout=60)
            while not database.execute(_LOOKED, [began]).fetchall()[0][0]:
                assert time.monotonic() < deadline, "it does not look for a first message"
                time.sleep(0.01)
            with sending.producer_pool.acquire() as producer:
                producer.publish({"job": 7}, routing_key=TRANSFER_QUEUE)
            drained.result(30)  # by looking it would come after 60 seconds
    assert heard == [{"job": 7}]
