"""The code blocks of a page, and what is to be done with each.

| block | meaning |
| --- | --- |
| `sh` | run it in the page's shell |
| `sh` below `<!-- fails: NUMBER -->` | run it; it must end with this exit code |
| `sh` below `<!-- background: TEXT -->` | start it, and continue when it has printed TEXT |
| any with `title="PATH"` | write the file, or append to it if it exists |
| `python` without a title | type it into `manage.py shell` |
| `json` or `text` without a title | the last command has printed these lines, with `...` for anything |
| any below `<!-- not run: REASON -->` | leave it out |
| one without a language | a drawing |

`<!-- begins: STATE -->` at the top names the state in which the page begins, see `machine.STATES`;
`<!-- running: web, worker -->` names the servers that run from the beginning.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt

PROJECT = Path(__file__).resolve().parents[2]
COMMENT = re.compile(r"<!-- (begins|running|background|fails|not run): (.+?) -->")
TITLE = re.compile(r'title="(.+?)"')


@dataclass(frozen=True)
class Block:
    """A code block, with the line of the page on which it begins."""

    line: int
    language: str
    code: str
    title: str = ""
    ready: str = ""
    """The text that a background command prints when it is ready; empty for any other block."""
    fails: str = ""
    """The exit code of a command that is meant to fail."""
    not_run: str = ""
    """The reason why the block is left out."""


@dataclass
class Page:
    """A page of the documentation."""

    path: Path
    begins: str = "project"
    running: tuple[str, ...] = ()
    blocks: list[Block] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.path.relative_to(PROJECT).with_suffix(""))


def read_page(path: Path) -> Page:
    """Return the page with its blocks in their order; drawings are left out."""
    page = Page(path)
    comments: dict[str, str] = {}
    for token in MarkdownIt().parse(path.read_text()):
        if token.type == "html_block":
            comments |= dict(COMMENT.findall(token.content))
        elif token.type == "fence" and token.map:
            language, _, attributes = token.info.strip().partition(" ")
            title = TITLE.search(attributes)
            if language:
                page.blocks.append(
                    Block(
                        token.map[0] + 1,
                        language,
                        token.content,
                        title[1] if title else "",
                        comments.pop("background", ""),
                        comments.pop("fails", ""),
                        comments.pop("not run", ""),
                    )
                )
    page.begins = comments.pop("begins", "clone" if path.name == "README.md" else page.begins)
    page.running = tuple(name for name in comments.pop("running", "").split(", ") if name)
    assert not comments, f"{path}: no block follows {comments}"
    return page


def pages() -> Iterator[Page]:
    """Yield the pages that have blocks."""
    for path in [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]:
        page = read_page(path)
        if page.blocks:
            yield page
