"""Background jobs: the Procrastinate queue, retries, and the rescue of jobs whose worker died."""
