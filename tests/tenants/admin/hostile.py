"""Texts that try to break a page, for every page that shows texts of other people."""

from html import escape

SCRIPT = "<script>alert(1)</script>"
ATTRIBUTE = "\" onmouseover=alert(1) x='"
RIGHT_TO_LEFT = "\N{RIGHT-TO-LEFT OVERRIDE}dlrow olleh\N{RIGHT-TO-LEFT MARK}"
EMOJI = "\N{PILE OF POO}" * 256
UNBROKEN = "W" * 256

TEXTS = (SCRIPT, ATTRIBUTE, RIGHT_TO_LEFT, EMOJI, UNBROKEN)
IDS = ("script", "attribute", "right to left", "emoji", "unbroken")
"""For `pytest.mark.parametrize("text", TEXTS, ids=IDS)`."""

TOGETHER = (SCRIPT + ATTRIBUTE + EMOJI + UNBROKEN, RIGHT_TO_LEFT)
"""The same in two texts, for tests that render many pages."""


def assert_harmless(page: str, text: str) -> None:
    """Check that the page shows the text, and that no browser reads markup from it.

    A text with a right-to-left mark must be isolated by <bdi> or `dir="auto"` wherever it stands in the body.
    """
    assert escape(text) in page
    assert text == escape(text) or text not in page
    if text == RIGHT_TO_LEFT:
        body = page[page.index("<body") :]
        assert 'dir="auto"' in body
