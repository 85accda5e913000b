"""Ends what a demo has started when the demo itself was killed and could not. A program of its own.

`python keeper.py DIRECTORY` reads on its standard input the process ids that the demo starts (`+1234`)
and sees end (`-1234`). At the end of the input, which comes when the demo is gone, however it went, it
kills those that are left, each with its process group, and removes the directory of their logs. A pipe
closes on every system; nothing here is Linux alone. It imports nothing of ours, to be there at once.
"""

import os
import shutil
import signal
import sys
from contextlib import suppress


def main() -> None:
    """Wait for the end of the input, and clean up."""
    left: set[int] = set()
    for line in sys.stdin:
        change = left.add if line.startswith("+") else left.discard
        change(int(line[1:]))
    for group in left:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    shutil.rmtree(sys.argv[1], ignore_errors=True)


if __name__ == "__main__":
    main()
