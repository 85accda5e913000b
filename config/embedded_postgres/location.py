"""The paths of a project's embedded PostgreSQL, and the parameters of a connection."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from django.db.utils import OperationalError

# Not tempfile.gettempdir(): two shells with different TMPDIR would get two servers and two sets of data.
TEMPORARY = Path("/tmp")  # noqa: S108 - make_private_dir verifies each directory made here

# macOS allows 103 bytes for the path of a socket, Linux 107.
SOCKET_PATH_BYTES = 103
SOCKET_NAME = ".s.PGSQL.5432"


class EmbeddedPostgresError(OperationalError):
    """The embedded server cannot be used. Django handles the error like an unreachable database."""


@dataclass(frozen=True)
class Location:
    """The directories of one project's server, and the parameters of a connection."""

    root: Path
    """Holds the lock files, the log, and the cluster in `data`."""
    socket_dir: Path
    """Only the server's account has access to this directory, because connections need no password."""

    port: int = 5432
    user: str = "postgres"
    database: str = "tenants"

    @classmethod
    def of(cls, base_dir: Path) -> "Location":
        """Return the location for the project in `base_dir`. Reads and writes no file.

        The location is `.postgres/` in the project, except in two cases: for root, because an unprivileged
        server cannot enter root's directories, and for a socket path that is too long. In these cases the
        location is a temporary directory, named by a hash of the project's path.
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
        """The data directory of the PostgreSQL cluster."""
        return self.root / "data"

    @property
    def log(self) -> Path:
        """The server's log since its last start."""
        return self.root / "log"

    @property
    def test_database(self) -> str:
        """The test database of this process. Two test runs must not drop each other's database."""
        return f"test_{self.database}_{os.getpid()}"


def make_private_dir(path: Path, *, owner: int, mode: int = 0o700) -> None:
    """Create `path` for the user id `owner`, or verify an existing directory.

    Raise EmbeddedPostgresError if `path` is not a directory of that owner or gives more than `mode` allows.
    Another user may have created the path first in a temporary directory.
    """
    try:
        path.mkdir(mode=mode)
        path.chmod(mode)  # mkdir applies the umask
        if owner != os.geteuid():
            os.chown(path, owner, -1)
    except FileExistsError:
        pass
    except OSError as error:
        raise EmbeddedPostgresError(
            f"The embedded PostgreSQL was not started, because a directory cannot be created: {error}"
        ) from error
    found = path.lstat()
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != owner
        or stat.S_IMODE(found.st_mode) & ~mode & 0o077
    ):
        raise EmbeddedPostgresError(
            f"{path} must be a directory of user id {owner} with mode {mode:o}, and is not. Another user may "
            f"have created it, so the embedded PostgreSQL was not started. Remove it and try again."
        )
