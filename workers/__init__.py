"""Background work: the Celery application, its tasks, and the relay that announces jobs to it."""
