"""What a web page says: its text, with headings as "# ...", list items as "- ..." and without scripts and menus."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_SILENT = frozenset({"script", "style", "noscript", "template", "svg", "nav", "head", "iframe", "object", "select"})
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "dd", "details", "div", "dl", "dt", "fieldset", "figcaption",
    "figure", "footer", "form", "header", "hr", "li", "main", "ol", "p", "pre", "section", "summary", "table", "tr",
    "ul", "h1", "h2", "h3", "h4", "h5", "h6", "title", "body", "caption", "option",
})  # fmt: skip
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_SPACE = re.compile(r"[ \t\n\r\f\xa0]+")


def charset_of(data: bytes) -> str | None:
    """The character set that a page states of itself near its beginning."""
    found = _CHARSET.search(data[:4096])
    return found[1].decode("ascii") if found else None


def text_of_html(page: str) -> tuple[str, str]:
    """Title and text of a page.

    >>> text_of_html("<title>T</title><h2>Cats</h2><p>They&nbsp;sleep.<script>x()</script><ul><li>much")
    ('T', '## Cats\\n\\nThey sleep.\\n\\n- much')
    """
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return reader.title(), reader.text()


class _Reader(HTMLParser):
    """Collects lines; `_quiet` counts the open elements of which nothing is shown."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._blocks: list[str] = []
        self._line: list[str] = []
        self._title: list[str] = []
        self._quiet: list[str] = []
        self._in_title = False
        self._preformatted = 0

    def title(self) -> str:
        """The title that the page states."""
        return _SPACE.sub(" ", "".join(self._title)).strip()

    def text(self) -> str:
        """Blocks with a blank line between them."""
        self._end_block()
        return "\n\n".join(self._blocks)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the base's
        """An element begins."""
        if tag == "title" and "svg" not in self._quiet:
            self._in_title = True
        elif tag == "body":
            self._quiet.clear()  # a head that was never closed must not hide the page
        if tag in _SILENT:
            self._quiet.append(tag)
        if tag in _BLOCKS:
            self._end_block()
        if tag in _HEADINGS:
            self._line.append("#" * _HEADINGS[tag] + " ")
        elif tag == "li":
            self._line.append("- ")
        elif tag == "br":
            self._line.append("\n" if self._preformatted else " ")
        elif tag in ("td", "th"):
            self._line.append(" ")
        self._preformatted += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        """An element ends; one that was not opened changes nothing."""
        if tag == "title":
            self._in_title = False
        if tag in self._quiet:
            while self._quiet.pop() != tag:
                pass
        if tag in _BLOCKS:
            self._end_block()
        self._preformatted = max(0, self._preformatted - (tag == "pre"))

    def handle_data(self, data: str) -> None:
        """Text between tags."""
        if self._in_title:
            self._title.append(data)
        elif not self._quiet:
            self._line.append(data if self._preformatted else _SPACE.sub(" ", data))

    def _end_block(self) -> None:
        block = "".join(self._line)
        block = block.strip("\n").rstrip() if self._preformatted else re.sub(r" +", " ", block).strip()
        self._line.clear()
        if block.strip("#- \n"):
            self._blocks.append(block)
