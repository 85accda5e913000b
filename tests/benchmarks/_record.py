"""Keep the rows of benchmarks in a JSON file, with the date and the machine, for the documentation."""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks._report import Report


def record(file: Path, name: str, report: Report, *, durable: bool) -> None:
    """Replace the rows of this benchmark in the file; keep those of the others."""
    recorded: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    recorded[f"{name}, durable" if durable else name] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "columns": list(report.columns),
        "rows": [list(row) for row in report.rows],
        "targets": report.figures.get("targets", {}),
    }
    file.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
