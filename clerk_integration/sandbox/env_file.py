"""Write the settings for clients of a local Clerk to a file, and read the keys from it at the next start."""

import os
from collections.abc import Mapping
from pathlib import Path

from clerk_integration.sandbox.local_clerk import Keys

PRIVATE_KEY = "CLERK_SANDBOX_PRIVATE_KEY"
NAMES = {
    "apiUrl": "CLERK_API_URL",
    "secretKey": "CLERK_SECRET_KEY",
    "jwtKey": "CLERK_JWT_KEY",
    "issuer": "CLERK_ISSUER",
    "instanceId": "CLERK_INSTANCE_ID",
    "webhookSigningSecret": "CLERK_WEBHOOK_SIGNING_SECRET",
}
"""The names of the settings, by the keys of `SandboxServer.description`."""


class EnvFileError(Exception):
    """The file cannot be used. The message says why and what to do."""


def read_keys(path: Path) -> Keys | None:
    """Return the keys that an earlier start wrote, or None if the file has no Clerk settings.

    Raise EnvFileError if the file has settings of another Clerk, because they must not be overwritten.
    """
    values = dict(_assignment(line) for line in _lines(path))
    if PRIVATE_KEY in values:
        try:
            return Keys(
                values["CLERK_INSTANCE_ID"],
                values["CLERK_SECRET_KEY"],
                values["CLERK_WEBHOOK_SIGNING_SECRET"],
                values[PRIVATE_KEY].replace("\\n", "\n"),
            )
        except KeyError as missing:
            name = missing.args[0]
            raise EnvFileError(
                f"{path} has {PRIVATE_KEY} but no {name}. It was not changed. "
                f"Remove {PRIVATE_KEY} and the settings that begin with CLERK_ to get new keys."
            ) from None
    if values.get("CLERK_SECRET_KEY"):
        raise EnvFileError(
            f"{path} has a CLERK_SECRET_KEY that no local Clerk wrote. It was not changed. "
            "Name another file with --env-file, or remove the settings that begin with CLERK_."
        )
    return None


def write_settings(path: Path, description: Mapping[str, str], private_pem: str) -> None:
    """Write the settings and keep all other lines of the file. Add DEBUG=true if the file is new."""
    settings = {NAMES[key]: value for key, value in description.items()} | {PRIVATE_KEY: private_pem}
    kept = [line for line in _lines(path) if _assignment(line)[0] not in settings]
    if not path.exists():
        kept = ["DEBUG=true"]
    written = [f"{name}={_quoted(value)}" for name, value in settings.items()]
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(
        os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write("\n".join([*kept, *written, ""]))
    temporary.replace(path)


def _quoted(value: str) -> str:
    """Return a value in one line, in quotes if it has spaces, so that a shell can read the file, too."""
    line = value.replace("\n", "\\n")
    return f"'{line}'" if " " in line else line


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise EnvFileError(f"{path} cannot be read ({error}). It was not changed.") from None


def _assignment(line: str) -> tuple[str, str]:
    name, _, value = line.removeprefix("export ").partition("=")
    return name.strip(), value.strip().strip("\"'")
