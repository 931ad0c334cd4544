"""Documents: what is read of each kind, and what is said of those that cannot be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rag_helpers import pdf

from ostro.errors import DocumentError
from ostro.rag.documents import read_document
from ostro.rag.html_text import text_of_html
from ostro.rag.sources import find_sources, load


def test_markdown_takes_its_title_from_the_first_heading() -> None:
    document = read_document("a/b.md", b"intro\r\n\r\n## The cat #\r\nIt sleeps.")
    assert (document.title, document.text) == ("The cat", "intro\n\n## The cat #\nIt sleeps.")
    assert read_document("a/b.md", b"no heading").title == "b.md"
    assert read_document("a/b.txt", b"# no heading").title == "b.txt"


def test_a_page_of_the_web() -> None:
    page = b"""<!doctype html><html><head><title>Cats &amp; dogs</title><style>p {}</style></head><body>
    <nav>Menu</nav><h1>Cats</h1><p>They <b>sleep</b>
    a lot.</p><ul><li>here<li>there</ul><pre>a
      b</pre><script>var x = "<p>no</p>";</script><table><tr><td>1<td>2</tr></table></body></html>"""
    document = read_document("https://example.org/cats?x=1", page, "text/html; charset=utf-8", "utf-8")
    assert document.title == "Cats & dogs"
    assert document.text == "# Cats\n\nThey sleep a lot.\n\n- here\n\n- there\n\na\n      b\n\n1 2"
    assert document.is_markdown


def test_a_head_that_is_never_closed_hides_nothing() -> None:
    assert text_of_html("<head><title>T</title><body><p>text</nav></p></select>more")[1] == "text\n\nmore"


def test_the_character_set_of_a_page() -> None:
    page = '<meta charset="euc-kr"><p>고양이</p>'.encode("euc-kr")
    assert read_document("a.html", page).text == "고양이"
    assert read_document("a.html", "<p>고양이</p>".encode("euc-kr"), "text/html", "euc-kr").text == "고양이"
    assert read_document("a.txt", "고양이".encode("utf-16")).text == "고양이"
    assert read_document("a.txt", b"\xef\xbb\xbfcat").text == "cat"


def test_hangul_is_composed() -> None:
    assert read_document("a.txt", "고양이".encode()).text == "고양이"


def test_pages_of_a_pdf() -> None:
    document = read_document("paper", pdf("First page", "Second page", title="Paper"))
    assert document.title == "Paper"
    assert document.text == "First page\n\nSecond page\n\n"
    assert document.page_starts == (0, 12)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.txt", b"  \n ", "holds no text"),
        ("a.txt", b"caf\xe9", "no UTF-8 text (byte 0xe9 at position 3)"),
        ("a.txt", b"a\x00b", "binary file"),
        ("a.html", b'<meta charset="klingon">x', "unknown character set 'klingon'"),
        ("a.pdf", b"<html>", "does not begin as one"),
        ("a.pdf", b"%PDF-1.4\nrubbish", "cannot be read as a PDF"),
        ("a.pdf", pdf(""), "no text but pictures"),
    ],
)
def test_what_cannot_be_read_is_named_with_a_remedy(name: str, data: bytes, words: str) -> None:
    with pytest.raises(DocumentError) as error:
        read_document(name, data)
    assert words in str(error.value)
    assert str(error.value).startswith(name)


def test_a_type_that_is_no_document() -> None:
    with pytest.raises(DocumentError, match="is of type image/png"):
        read_document("https://example.org/x", b"\x89PNG", "image/png")


def test_files_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.md", "a.txt", "c.png", ".hidden.txt", "sub/d.HTML", ".git/e.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = find_sources([tmp_path, tmp_path / "c.png", tmp_path / "a.txt", "https://example.org/x"])
    assert found == [
        *(str(tmp_path / name) for name in ("a.txt", "b.md", "sub/d.HTML", "c.png")),
        "https://example.org/x",
    ]
    with pytest.raises(DocumentError, match="neither a file nor a folder"):
        find_sources([tmp_path / "nothing"])
    with pytest.raises(DocumentError, match="http and https"):
        find_sources(["ftp://example.org/x"])


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 11)
    with pytest.raises(DocumentError, match="has 11 bytes, and 10 are allowed"):
        load(str(tmp_path / "a.txt"), max_bytes=10)


class _Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/page")
            self.end_headers()
            return
        self.send_response(200 if self.path == "/page" else 404)
        self.send_header("Content-Type", "text/html; charset=iso-8859-1")
        self.end_headers()
        self.wfile.write(b"<p>caf\xe9</p>")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_pages_are_fetched_with_limits(site: str) -> None:
    loaded = load(f"{site}/moved")
    assert read_document(site, loaded.data, loaded.media_type, loaded.charset).text == "café"
    with pytest.raises(DocumentError, match="status 404"):
        load(f"{site}/nothing")
    with pytest.raises(DocumentError, match="more than 5 bytes"):
        load(f"{site}/page", max_bytes=5)
    with pytest.raises(DocumentError, match="cannot be fetched"):
        load("http://127.0.0.1:9/")
