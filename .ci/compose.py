"""Validate compose.yaml against the Compose specification: `uv run --group ci .ci/compose.py`."""

import json
import sys
from pathlib import Path

import compose_spec
import yaml

FILE = Path(__file__).resolve().parent.parent / "compose.yaml"


def main() -> None:
    """Exit with 1 and the reason if the file is not valid."""
    resolved = yaml.safe_load(FILE.read_text())  # resolves anchors and merge keys, as Compose does
    try:
        compose_spec.PyCompose.from_json(json.dumps(resolved)).to_spec()
    except ValueError as error:
        sys.exit(f"{FILE.name} is not valid: {error}")
    print(f"{FILE.name} is valid: {', '.join(resolved['services'])}")


if __name__ == "__main__":
    main()
