"""The threats in SECURITY.md name tests that exist."""

import ast
import re

from tests.children import PROJECT

NAMED = re.compile(r"^- `(tests/[\w/]+\.py)::(test_\w+)`$", re.MULTILINE)
NOTES = (PROJECT / "SECURITY.md").read_text()


def test_security_notes_name_existing_tests_for_each_threat() -> None:
    threats = re.split(r"^\*\*", NOTES.partition("## Threats")[2].partition("\n## ")[0], flags=re.MULTILINE)[
        1:
    ]

    assert len(threats) >= 10
    assert [threat.partition("**")[0] for threat in threats if not NAMED.search(threat)] == []
    missing = [f"{path}::{test}" for path, test in NAMED.findall(NOTES) if test not in functions(path)]
    assert missing == []


def functions(path: str) -> set[str]:
    """Return the names of the test functions of a module."""
    tree = ast.parse((PROJECT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
