"""The one task: a job id, handed to the runner."""

from __future__ import annotations

from collections.abc import Callable

from celery import Celery

TASK = "radir.work"


def register(app: Celery, run: Callable[[int], None]) -> None:
    """Give the application its task; ``run`` does the job of an id, and never raises for what a job did wrong."""

    @app.task(name=TASK)  # type: ignore[untyped-decorator]
    def work(job_id: int) -> None:
        run(job_id)


def ring(app: Celery, job_id: int, queue: str) -> None:
    """Tell some worker that there is a job. Raises what the broker's library raises when it cannot be reached."""
    app.send_task(TASK, args=[job_id], queue=queue, retry=False)
