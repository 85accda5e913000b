"""Sum the metrics of several processes on one machine, which prometheus_client keeps in files.

Each process writes the files of PROMETHEUS_MULTIPROC_DIR that have its process id. prometheus_client keeps
the files of dead processes for ever; `fold` adds their counts to one set of files.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import Metric, multiprocess
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.registry import Collector

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
LOCK = "lock"
DEAD = 0
"""The process id of the files that hold the counts of all dead processes."""


class AllProcesses(Collector):
    """The sums over all processes that have written to PROMETHEUS_MULTIPROC_DIR."""

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        directory = Path(os.environ[DIRECTORY])
        with _locked(directory, fcntl.LOCK_SH):
            yield from list(multiprocess.MultiProcessCollector(None, str(directory)).collect())


def fold(pid: int) -> None:
    """Add the counts of a dead process to those of all dead ones, and delete the files of the process.

    A scrape at the same time sees the counts once: a sum that shrinks and grows again would look like a
    restart to Prometheus, which would then count everything twice.
    """
    directory = Path(os.environ[DIRECTORY])
    with _locked(directory, fcntl.LOCK_EX):
        for kind in ("counter", "histogram"):
            source = directory / f"{kind}_{pid}.db"
            if source.exists():
                total = MmapedDict(str(directory / f"{kind}_{DEAD}.db"))
                for key, value, _, _ in MmapedDict.read_all_values_from_file(str(source)):
                    total.write_value(key, total.read_value(key)[0] + value, 0.0)
                total.close()
                source.unlink()
        multiprocess.mark_process_dead(pid, str(directory))


@contextmanager
def _locked(directory: Path, kind: int) -> Iterator[None]:
    with (directory / LOCK).open("a") as file:
        fcntl.flock(file, kind)
        yield
