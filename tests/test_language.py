"""Code, tests, documentation and messages use words that their readers know."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
SUFFIXES = {".py", ".md", ".html", ".toml", ".yaml", ".yml", ".txt", ".sql", ""}
NOT_OURS = {"requirements.lock", "uv.lock", "tests/test_language.py"}

WORDS = {
    r"bur(?:y|ied|ies|ying|ial)": "record as deleted, deleted, tombstone (the row)",
    r"dead (?:id|organization|tenant|membership|member)s?": "deleted",
    r"(?:told|said)": "incoming, received, reported",
    r"(?:un)?marked": "carries our marker, with marker",
    r"hidden": "missed, unreadable",
    r"bare (?:row|tenant)s?": "mirror-only tenant",
    r"pure mirrors?": "mirror-only tenant",
    r"li(?:fe|ves) of (?:its|their) own": "has local data",
    r"standings?": "lease state, status",
    r"how (?:it|they) stands?": "state, status",
    r"in somebody'?s hands": "another process is working on it",
    r"(?:is|are|was|were) at it": "another process is working on it",
    r"(?:go|goes|going|gone|went) on": "continue, resume",
    r"without a word": "without recording a result",
    r"now and then": "every N rows",
    r"of today": "current",
    r"from before": "stale",
    r"a moment": "a time, a timestamp",
    r"crews?": "worker pool",
    r"census": "snapshot of Clerk",
    r"brought": "member result, imported",
    r"hopeless": "fatal",
    r"level with": "in sync with Clerk, up to date",
}
"""Words of a private dialect, as regular expressions, and what the project writes instead."""

NAMES = {
    "MOMENT": "TIMESTAMP",
    "marker_of": "with_marker",
    "PASSING": "RETRYABLE",
    "LATER": "RETRY_STRATEGY",
    "split_off": "unlink",
    "wrong_with": "..._error",
    "carried_out": "recorded_...",
}
"""Parts of names in the code; in a sentence these words are harmless."""

ALLOWED = (
    r"from before Clerk",
    r"include hidden",
    r'type="hidden"',
    r" hidden>",
    r"hidden (fields|initial|input)",
    r"pytest\.mark\w*",
    r"marked (slow|as safe|safe)",
)
"""Uses that mean what every reader expects."""

FORBIDDEN_WORD = re.compile(rf"(?i:(?<![a-z])(?:{'|'.join(WORDS)})(?![a-z]))")
FORBIDDEN_NAME = re.compile(rf"(?<![A-Za-z])(?:{'|'.join(NAMES)})(?![A-Za-z])")
EXCUSED = re.compile("|".join(ALLOWED), re.IGNORECASE)


def text_files() -> Iterator[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in sorted(set(listed.stdout.splitlines())):
        path = PROJECT / name
        if name not in NOT_OURS and path.suffix in SUFFIXES and path.is_file():
            yield path


def words_in(line: str) -> list[str]:
    """Return the forbidden words of `line`, also those that are parts of a name."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", line)
    return FORBIDDEN_WORD.findall(EXCUSED.sub("", spaced)) + FORBIDDEN_NAME.findall(line)


def findings() -> list[str]:
    return [
        f"{path.relative_to(PROJECT)}:{number}: {word}"
        for path in text_files()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for word in words_in(line)
    ]


def test_tree_uses_no_word_of_a_private_dialect() -> None:
    """Each line names file, line and word; WORDS and NAMES say what to write instead."""
    assert findings() == []


def test_words_are_found_in_sentences_and_in_names() -> None:
    assert words_in("def bury_organization(told: str):") == ["bury", "told"]
    assert words_in("LeaseStanding") == ["Standing"]
    assert words_in("retry=LATER  # later") == ["LATER"]
    assert words_in("a tenant from before Clerk, an outstanding invoice") == []
