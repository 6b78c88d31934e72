"""Our transport of pgmq: it connects as the catalogue does. Where messages are waited for, it LISTENs, and changes a
queue's table at most once, never for long.

kombu's own one drops and creates the trigger of each queue whenever a consumer starts or connects again, which waits
for every reader of the table, a dump for instance, and makes all who send and read wait behind it.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import pgmq

from radir_pacs.catalogue import BrokerClient, notifies

_POLL_S = 0.1  # where the queue does not tell of its messages


class Channel(pgmq.Channel):
    def _maybe_enable_notify(self, queue: str, queue_name: str | None = None) -> None:
        if self.use_notify:
            self.connection.listen(queue_name or self._queue_name(queue))


class Transport(pgmq.Transport):
    Channel = Channel

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)  # type: ignore[no-untyped-call]
        self._heard: set[str] = set()

    def _create_pgmq_client(self) -> Any:
        client: Any = self.client
        options = client.transport_options
        if not options.get("conn_string"):
            return super()._create_pgmq_client()
        return BrokerClient(
            conn_string=options["conn_string"],
            vt=options["visibility_timeout"],
            pool_size=options["pool_size"],
            init_extension=False,
        )

    def listen(self, queue: str) -> None:
        """Wake up at a message of the queue; look at the queues often where it cannot be made to tell of them."""
        if queue in self._heard:
            return
        pool: Any = self._get_pgmq_client().pool  # None only after its end
        with pool.connection() as connection:
            if not notifies(connection, queue):
                self.polling_interval = min(self.polling_interval, _POLL_S)
        self._register_notify_queue(queue)  # always: kombu's waiter does not wait where it listens to nothing
        self._heard.add(queue)
