"""The file with settings: `.env` beside manage.py, or the file that ENV_FILE names."""

import io
import os
import re
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

ASSIGNMENT = re.compile(r"(export )?[A-Za-z_0-9]+=")


def read_env_file(default: Path) -> None:
    """Add the settings of the file to the environment. Keep existing variables. Ignore a missing `default`.

    Raise ImproperlyConfigured if the file that ENV_FILE names cannot be read, or for a malformed line. The
    message contains the number of the line and never its content, which may be a secret.
    """
    named = os.environ.get("ENV_FILE")
    path = Path(named or default)
    try:
        # Editors on Windows write a byte order mark, which `utf-8-sig` skips.
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except OSError as error:
        if named:
            raise ImproperlyConfigured(
                f"{path} cannot be read: {error.strerror}. Correct ENV_FILE, or unset it to use .env."
            ) from error
        return
    except UnicodeDecodeError:
        raise ImproperlyConfigured(f"{path} is not a UTF-8 text. Save it as UTF-8.") from None
    for number, line in enumerate(lines, start=1):
        if line and not line.startswith("#") and not ASSIGNMENT.match(line):
            raise ImproperlyConfigured(
                f"{path}, line {number}: not of the form NAME=VALUE. No setting of the file was read. Put "
                "each value into one line, with \\n for a line break in a key, and start comments with #."
            )
    environ.Env.read_env(io.StringIO("\n".join(lines)), overwrite=False)
