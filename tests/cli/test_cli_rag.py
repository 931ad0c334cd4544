"""`ostro rag` as a user runs it, with the default embedder and a tiny model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "cats.md").write_text("# Cats\n\nCats purr when they are content.\n")
    (folder / "oil.txt").write_text("The price of oil rose on Monday.\n")
    return folder


def test_from_documents_to_an_answer(run: Run, docs: Path, tmp_path: Path, chat_model: Path) -> None:
    here = ("--dir", tmp_path / "collections")
    done = run("rag", "add", docs, *here)
    assert (done.code, done.out) == (0, "")
    assert "2 new, 0 updated, 0 unchanged: 2 passages" in done.err
    assert run("rag", "add", docs, *here, "--json").json["unchanged"] == [str(docs / "cats.md"), str(docs / "oil.txt")]

    found = run("rag", "search", "When do cats purr?", *here, "--json").json
    assert (found[0]["title"], found[0]["document"]) == ("Cats", str(docs / "cats.md"))
    assert "[1] Cats (" in run("rag", "search", "When do cats purr?", *here).out
    assert "Cats purr when they are content." in run("rag", "show", found[0]["id"], *here).out

    asked = ("rag", "ask", "When do cats purr?", "-m", chat_model, "--max-tokens", 4, "--temperature", 0, *here)
    answer = run(*asked, "--json").json
    assert answer["is_found"]
    assert answer["passages"][0]["title"] == "Cats"
    assert run(*asked).out.strip() == answer["answer"].strip()

    assert [each["title"] for each in run("rag", "list", *here, "--json").json] == ["Cats", "oil.txt"]
    assert run("rag", "list", "--collections", *here).out == "default\n"
    assert run("rag", "info", *here, "--json").json["num_documents"] == 2
    assert "wordllama, 256 dimensions" in run("rag", "info", *here).out
    assert run("rag", "remove", docs / "oil.txt", *here, "--json").json == {"removed": [str(docs / "oil.txt")]}
    assert run("rag", "remove", "--all", *here).code == 0
    assert run("rag", "info", *here).code == 1


def test_nothing_found_asks_no_model(run: Run, docs: Path, tmp_path: Path, chat_model: Path) -> None:
    run("rag", "add", docs / "oil.txt", "--dir", tmp_path)
    done = run("rag", "ask", "고양이?", "-m", chat_model, "--dir", tmp_path, "--mode", "words")
    assert done.out == "문서에는 이에 대한 내용이 없습니다.\n"


def test_a_document_that_cannot_be_read_is_told_and_the_others_go_on(run: Run, docs: Path, tmp_path: Path) -> None:
    (docs / "bad.txt").write_bytes(b"caf\xe9")
    done = run("rag", "add", docs, "--dir", tmp_path / "c")
    assert done.code == 1
    assert "bad.txt is no UTF-8 text" in done.err
    assert "2 new, 0 updated, 0 unchanged, 1 not read" in done.err


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("search", "x"), 1, "There is no collection"),
        (("add", "/nowhere"), 1, "neither a file nor a folder"),
        (("search", "x", "-c", "..x"), 2, "is no name for a collection"),
        (("search", "x", "-c", "a/b"), 2, "a name with --dir"),
        (("remove",), 2, "Name documents to remove"),
        (("add", "x", "--embedder-api", "azure"), 2, "server's address"),
        (("add", "x", "--embedder-url", "http://x"), 2, "Name the model"),
        (("search", "x", "--mode", "magic"), 2, "none of hybrid, vectors, words"),
    ],
)
def test_mistakes_are_explained(run: Run, tmp_path: Path, args: tuple[str, ...], code: int, words: str) -> None:
    done = run("rag", *args, "--dir", tmp_path / "c")
    assert done.code == code
    assert words in " ".join(done.err.replace("│", " ").split())
