"""Ends the demo's processes when the demo itself was killed. A program of its own.

`python keeper.py DIRECTORY` leads the process group of the demo's processes, and waits for the end of its
standard input, a pipe that closes when the demo is gone. Then it removes the directory of their logs and
kills its process group.
"""

import os
import shutil
import signal
import sys


def main() -> None:
    """Wait for the end of the input, then remove the logs and kill the group."""
    sys.stdin.read()
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
