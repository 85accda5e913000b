"""One full sync in a process of its own, which measures itself; prints one line of JSON."""

import json
import os
import resource
import sys
import time
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")


def main() -> None:
    """Sync, counting statements; the peak is the process's own (KiB on Linux, bytes on macOS)."""
    django.setup()
    from django.db import connection

    from tenants.reconcile import run_full_sync

    statements = 0

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal statements
        statements += 1
        return execute(sql, params, many, context)

    started = time.perf_counter()
    with connection.execute_wrapper(count):
        run = run_full_sync()
    seconds = time.perf_counter() - started
    pages = run.pages.count()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = {
        "seconds": seconds,
        "pages": pages,
        "statements": statements,
        "peak_mb": peak / (1024 if sys.platform != "darwin" else 1024**2),
        "created": run.created,
        "updated": run.updated,
        "unchanged": run.unchanged,
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
