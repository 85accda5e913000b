"""Where the embedded PostgreSQL of a project lives; computed, so that settings may ask."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from config.embedded_postgres.exceptions import EmbeddedPostgresError

# Not tempfile.gettempdir(): two shells with different TMPDIR would get two servers and two sets of data.
TEMPORARY = Path("/tmp")  # noqa: S108 - what is made here is verified by make_private_dir

# macOS allows 103 bytes for the path of a socket, Linux 107; PostgreSQL's name for it takes the rest.
SOCKET_PATH_BYTES = 103
SOCKET_NAME = ".s.PGSQL.5432"


@dataclass(frozen=True)
class Location:
    """The directories of one project's server, and how to connect to it."""

    root: Path
    """Locks, log, and in `data` the cluster."""
    socket_dir: Path
    """Private to the server's account; connections are let in without a password."""

    port: int = 5432
    user: str = "postgres"
    database: str = "tenants"

    @classmethod
    def of(cls, base_dir: Path) -> "Location":
        """Return the location for the project in `base_dir`; touches no file.

        `.postgres/` in the project. For root, whose directories an unprivileged server cannot enter,
        a temporary directory keyed by the project's path. A socket path that would be too long
        moves into a temporary directory of its own.
        """
        base_dir = base_dir.resolve()
        key = hashlib.sha256(os.fsencode(base_dir)).hexdigest()[:16]
        if os.geteuid() == 0:
            root = TEMPORARY / f"clerk-tenants-postgres-{key}"
            return cls(root=root, socket_dir=root / "socket")
        root = base_dir / ".postgres"
        socket_dir = root / "socket"
        if len(os.fsencode(socket_dir / SOCKET_NAME)) > SOCKET_PATH_BYTES:
            socket_dir = TEMPORARY / f"clerk-tenants-postgres-{os.geteuid()}-{key}"
        return cls(root=root, socket_dir=socket_dir)

    @property
    def data(self) -> Path:
        """The data directory: PostgreSQL's cluster."""
        return self.root / "data"

    @property
    def test_database(self) -> str:
        """The database of a test run in this process: two runs at once must not drop each other's."""
        return f"test_{self.database}_{os.getpid()}"

    @property
    def log(self) -> Path:
        """What the server has said since its last start."""
        return self.root / "log"


def make_private_dir(path: Path, *, owner: int, mode: int = 0o700) -> None:
    """Create `path` for the user id `owner`, or verify what is there; no parent is touched.

    Raises EmbeddedPostgresError when `path` is not a directory of that owner, or more open than
    `mode`: in a temporary directory anybody may have made it first.
    """
    try:
        path.mkdir(mode=mode)
        path.chmod(mode)  # the umask may have taken bits away
        if owner != os.geteuid():
            os.chown(path, owner, -1)
    except FileExistsError:
        pass
    except OSError as error:
        raise EmbeddedPostgresError(f"No directory for the embedded PostgreSQL: {error}") from error
    found = path.lstat()
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != owner
        or stat.S_IMODE(found.st_mode) & ~mode & 0o077
    ):
        raise EmbeddedPostgresError(
            f"{path} was expected to be a directory of user id {owner} with mode {mode:o}, and is not. "
            f"It may have been made by somebody else, so it was not used. Remove it and try again."
        )
