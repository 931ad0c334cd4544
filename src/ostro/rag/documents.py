"""Documents: what a file or page says, as plain text whose offsets never change.

Text is normalized to NFC, so that Hangul written letter by letter (as macOS names files) is found like any other; line
ends become "\\n". Offsets of chunks and pages count characters of that text.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath

from ostro.errors import DocumentError
from ostro.rag.html_text import charset_of, text_of_html

TEXT, MARKDOWN, HTML, PDF = "text/plain", "text/markdown", "text/html", "application/pdf"

SUFFIXES = {
    ".txt": TEXT, ".text": TEXT, ".rst": TEXT, ".md": MARKDOWN, ".markdown": MARKDOWN, ".html": HTML, ".htm": HTML,
    ".xhtml": HTML, ".pdf": PDF,
}  # fmt: skip
"""The endings of files that are read when a folder is added."""

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_BAD = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Document:
    """A document's title and text.

    `page_starts` are the offsets at which pages begin, of formats that have pages; `is_markdown` says whether a line
    "# Title" is a heading.
    """

    source: str
    title: str
    media_type: str
    text: str
    page_starts: tuple[int, ...] = ()

    @property
    def is_markdown(self) -> bool:
        """Whether headings are marked by number signs; the text of HTML is written so, too."""
        return self.media_type in (MARKDOWN, HTML)


def read_document(source: str, data: bytes, media_type: str | None = None, charset: str | None = None) -> Document:
    """The document in `data`; `source` is its path or address.

    `media_type` and `charset` are what a server said of it; without them the ending and the content decide.
    Raises DocumentError where it has no text that can be read, and MissingExtraError for a PDF without pypdf.
    """
    kind = _kind(source, data, media_type)
    if kind == PDF:
        from ostro.rag.pdf_text import pages_of_pdf

        title, pages = pages_of_pdf(source, data)
        text, starts = _joined([clean(page) for page in pages])
        document = Document(source, title or _name(source), kind, text, starts)
    elif kind == HTML:
        title, text = text_of_html(_decoded(source, data, charset or charset_of(data)))
        document = Document(source, clean(title).strip() or _name(source), kind, clean(text))
    else:
        text = clean(_decoded(source, data, charset))
        document = Document(source, _title(text) if kind == MARKDOWN else _name(source), kind, text)
        document = document if document.title else Document(source, _name(source), kind, text)
    if not document.text.strip():
        raise DocumentError(source, "holds no text, so there is nothing to be found in it. Leave it out.")
    return document


def clean(text: str) -> str:
    """The text in NFC, with plain line ends and without control characters.

    >>> clean("a\\r\\nb\\x00 e\\u0301")
    'a\\nb é'
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    return unicodedata.normalize("NFC", _BAD.sub("", text))


def _kind(source: str, data: bytes, media_type: str | None) -> str:
    """What is in `data`: a PDF says so itself; else what the server or the ending says; else any text."""
    if data[:1024].lstrip().startswith(b"%PDF-"):
        return PDF
    stated = (media_type or "").partition(";")[0].strip().lower()
    known: dict[str, str] = {TEXT: TEXT, MARKDOWN: MARKDOWN, HTML: HTML, "application/xhtml+xml": HTML, PDF: PDF}
    path = PurePosixPath(source.partition("?")[0].partition("#")[0] if "://" in source else source)
    by_ending = SUFFIXES.get(path.suffix.lower())
    if stated in known:
        return by_ending if stated == TEXT and by_ending == MARKDOWN else known[stated]
    if stated and not stated.startswith("text/"):
        raise DocumentError(source, f"is of type {stated}; text, Markdown, HTML and PDF can be read.")
    if by_ending == PDF:
        raise DocumentError(source, "is called a PDF, but does not begin as one: it is damaged. Get it again.")
    return by_ending or (HTML if re.match(rb"\s*<(!doctype html|html)", data[:512], re.IGNORECASE) else TEXT)


def _decoded(source: str, data: bytes, charset: str | None) -> str:
    name = next((name for mark, name in _MARKS if data.startswith(mark)), charset or "utf-8")
    try:
        text = data.decode(name)
    except LookupError:
        raise DocumentError(source, f"states the unknown character set {name!r}. Convert it to UTF-8.") from None
    except UnicodeDecodeError as error:
        raise DocumentError(
            source,
            f"is no {name.upper()} text (byte {data[error.start]:#04x} at position {error.start}). If it is a text, "
            "convert it, such as with: iconv -t UTF-8",
        ) from None
    if "\x00" in text[:4096]:
        raise DocumentError(source, "is a binary file; text, Markdown, HTML and PDF can be read.")
    return text


def _joined(pages: list[str]) -> tuple[str, tuple[int, ...]]:
    """The pages with a blank line between them, and where each begins."""
    text, starts = "", []
    pieces = []
    at = 0
    for page in pages:
        starts.append(at)
        piece = page.rstrip() + "\n\n"
        pieces.append(piece)
        at += len(piece)
    text = "".join(pieces)
    return text, tuple(starts)


def _title(text: str) -> str:
    """The first heading of a Markdown text, or ""."""
    found = re.search(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def _name(source: str) -> str:
    return PurePosixPath(source.partition("?")[0].rstrip("/")).name or source
