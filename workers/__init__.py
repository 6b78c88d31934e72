"""Background work: the Celery application, its tasks, and the relay that rings it."""
