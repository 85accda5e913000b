"""The settings for the clients of a local Clerk, in a file from which its next start takes its keys."""

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
"""The settings by their names in the description of a server."""


class EnvFileError(Exception):
    """The file cannot be used; the message says why and what to do."""


def read_keys(path: Path) -> Keys | None:
    """Return the keys that an earlier start wrote; None when the file has no settings of Clerk's.

    Raise EnvFileError for a file with settings of another Clerk, which must not be overwritten.
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
    """Write the settings, keeping all other lines; a new file gets DEBUG=true as well."""
    settings = {NAMES[key]: value for key, value in description.items()} | {PRIVATE_KEY: private_pem}
    kept = [line for line in _lines(path) if _assignment(line)[0] not in settings]
    if not path.exists():
        kept = ["DEBUG=true"]
    written = [f"{name}={value.replace(chr(10), chr(92) + 'n')}" for name, value in settings.items()]
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(
        os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write("\n".join([*kept, *written, ""]))
    temporary.replace(path)


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
