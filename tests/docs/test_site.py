"""The documentation is easy to find, and quick to load."""

import re

from docs.generate import DOCS

PROJECT = DOCS.parent
MAX_IMAGE_BYTES = 150_000
MAX_README_LINES = 90
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)")


def test_images_are_small_and_shown() -> None:
    sizes = {path.name: path.stat().st_size for path in (DOCS / "images").iterdir()}
    pages = "".join(path.read_text() for path in DOCS.rglob("*.md"))

    assert {name: size for name, size in sizes.items() if size > MAX_IMAGE_BYTES} == {}
    assert [name for name in sizes if name not in pages] == []


def test_readme_is_a_screen_and_a_half_and_its_links_lead_somewhere() -> None:
    text = (PROJECT / "README.md").read_text()

    assert len(text.splitlines()) <= MAX_README_LINES
    assert [link for link in LINK.findall(text) if not (PROJECT / link).exists()] == []


def test_every_page_has_one_title_and_a_place_in_the_navigation() -> None:
    navigation = re.findall(r"[\w/-]+\.md", (PROJECT / "mkdocs.yml").read_text())
    pages = {str(path.relative_to(DOCS)): path.read_text() for path in DOCS.rglob("*.md")}

    assert sorted(navigation) == sorted(pages)
    assert [name for name, text in pages.items() if not re.search(r"^# ", text, re.MULTILINE)] == []
