"""Background jobs: the Procrastinate queue, its connections, and jobs whose worker died."""
