"""The rules for names and slugs, and that they are those of Clerk as far as they are known."""

import pytest

from clerk_integration.naming import name_problem, slug_problem
from clerk_integration.sandbox import parameters


@pytest.mark.parametrize(
    "name",
    [
        "A",
        "Old & Sons, Ltd.",
        "x" * 256,
        "Müller\u00a0GmbH",
        "株式会社\u3000例",
        "👩\u200d🚀 Space",
        "1 < 2",
        "WWW",
    ],
)
def test_name_problem_good_name_is_none(name: str) -> None:
    assert name_problem(name) is None
    assert parameters.organization_name(name) == name


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is blank"),
        (" \u3000\u00a0", "is blank"),
        ("\u200b", "is blank"),
        ("x" * 257, "has 257 characters; Clerk allows 256"),
        ("See http://acme.test", "contains a URL, which Clerk does not allow"),
        ("ftp://acme", "contains a URL, which Clerk does not allow"),
        ("WWW.acme.test", "contains a URL, which Clerk does not allow"),
        ("<b>Acme</b>", "contains HTML, which Clerk does not allow"),
        ("Acme\u202etxt.exe", "contains the control character U+202E"),
        ("Acme\u2066", "contains the control character U+2066"),
        ("Acme\nSons", "contains the control character U+000A"),
        ("Acme\x00", "contains the control character U+0000"),
        ("Acme\x1b[31m", "contains the control character U+001B"),
        ("Acme\u2028", "contains the control character U+2028"),
        ("Acme\ud800", "contains the control character U+D800"),
    ],
)
def test_name_problem_bad_name_is_described(name: str, problem: str) -> None:
    assert name_problem(name) == problem


@pytest.mark.parametrize("slug", ["a", "old-sons", "2024", "-a-", "x" * 256])
def test_slug_problem_good_slug_is_none(slug: str) -> None:
    assert slug_problem(slug) is None
    assert parameters.slug(slug) == slug


@pytest.mark.parametrize("slug", ["", "-", "Acme", "old_sons", "old sons", "é", "a\n", "x" * 257])
def test_slug_problem_bad_slug_is_described(slug: str) -> None:
    assert slug_problem(slug) is not None
