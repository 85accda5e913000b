"""Ends the demo's processes if the demo itself is killed. A separate program.

`python keeper.py DIRECTORY` is the leader of the process group of the demo's processes. It waits for the end
of its standard input, a pipe that closes when the demo ends. Then it removes DIRECTORY, which holds the logs,
and kills its process group.
"""

import os
import shutil
import signal
import sys


def main() -> None:
    """Wait for the end of the input, then remove the logs and kill the group."""
    # If the demo is killed while it has stopped the local Clerk, the kernel sends SIGHUP to the whole group.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.stdin.read()
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
