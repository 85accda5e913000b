"""The Django project: settings, URLs, database, logs and health endpoints."""
