"""Retrieval on the documentation of Python's own library: recall of constructed questions, and the time of the index.

    python benchmarks/rag.py --passages 2000

Documents are the docstrings of the standard library, one module a file, so any machine with Python has them. A question
is built from a passage: some of its rarer words in their order, without the others; recall@5 is the share of questions
whose passage is among the first five. With langchain-community and langchain-text-splitters installed, the same files
are cut, embedded by the same embedder and put into its FAISS store in the same run.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import re
import sysconfig
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from ostro.embeddings import open_embedder
from ostro.rag import Collection, Passage
from ostro.rag.embedders import EmbedderChoice, LocalEmbedder

WORD = re.compile(r"[A-Za-z]{4,}")
WORDS_OF_A_QUESTION = 8


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=2000, help="passages to reach, at least")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--chunk-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = write_docstrings(Path(folder, "docs"), options.passages * options.chunk_size * 5)
        embedder = open_embedder()  # loaded before the clock starts, for both
        result: dict[str, Any] = {"files": len(files), "bytes": sum(file.stat().st_size for file in files)}
        result |= measured(Path(folder, "collection"), files, embedder, options)
        result["langchain_seconds"] = langchain_seconds(files, embedder, options.chunk_size)
    print(json.dumps(result, indent=2))


def write_docstrings(folder: Path, num_bytes: int) -> list[Path]:
    """A Markdown file of docstrings for each module, until there are about so many bytes."""
    folder.mkdir()
    written: list[Path] = []
    library = Path(sysconfig.get_paths()["stdlib"])
    for source in sorted(library.rglob("*.py")):
        if "site-packages" in source.parts or "test" in source.parts or "tests" in source.parts:
            continue
        sections = docstrings(source)
        if sum(map(len, sections)) < 500:
            continue
        name = ".".join(source.relative_to(library).with_suffix("").parts)
        path = folder / f"{name}.md"
        path.write_text(f"# {name}\n\n" + "\n\n".join(sections) + "\n", encoding="utf-8")
        written.append(path)
        num_bytes -= path.stat().st_size
        if num_bytes < 0:
            break
    return written


def docstrings(source: Path) -> list[str]:
    """The docstrings of a module, each under the name of what it describes."""
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                found.append(f"## {getattr(node, 'name', source.stem)}\n\n{text}")
    return found


def measured(where: Path, files: list[Path], embedder: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds to add the files, and the recall of every way to search."""
    own = LocalEmbedder(embedder, EmbedderChoice("embedding", embedder.name))
    with Collection(where, own, chunk_size=options.chunk_size, chunk_overlap=16) as collection:
        begin = time.perf_counter()
        added = collection.add(files)
        seconds = time.perf_counter() - begin
        questions = constructed(collection, added.num_embedded, options)
        recalls, begin = {}, time.perf_counter()
        for mode in ("hybrid", "vectors", "words"):
            hits = sum(
                any(wanted.id == each.id for each in collection.search(question, 5, mode=mode))  # type: ignore[arg-type]
                for question, wanted in questions
            )
            recalls[mode] = hits / len(questions)
        each = (time.perf_counter() - begin) / (3 * len(questions))
    return {
        "passages": added.num_embedded,
        "ostro_seconds": seconds,
        "recall_at_5": recalls,
        "questions": len(questions),
        "milliseconds_a_search": 1000 * each,
    }


def constructed(collection: Collection, count: int, options: argparse.Namespace) -> list[tuple[str, Passage]]:
    """Questions of rarer words of a passage, with the passage."""
    passages = [collection.passage(number) for number in range(1, count + 1)]
    common = Counter(word for passage in passages for word in set(WORD.findall(passage.text.lower())))
    rng = random.Random(options.seed)
    made = []
    for passage in rng.sample(passages, len(passages)):
        words = list(dict.fromkeys(WORD.findall(passage.text)))
        if len(words) < 2 * WORDS_OF_A_QUESTION:
            continue
        rarer = sorted(words, key=lambda word: common[word.lower()])[: len(words) // 2]
        chosen = set(rng.sample(rarer, WORDS_OF_A_QUESTION))
        made.append((" ".join(word for word in words if word in chosen), passage))
        if len(made) == options.questions:
            break
    return made


def langchain_seconds(files: list[Path], embedder: Any, chunk_size: int) -> float | None:
    """Seconds of the same work by langchain and faiss; None where they are not installed."""
    try:
        from langchain_community.vectorstores import FAISS
        from langchain_core.embeddings import Embeddings
        from langchain_text_splitters import RecursiveCharacterTextSplitter
    except ImportError:
        return None

    class Same(Embeddings):
        """The same embedder."""

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            """Vectors as lists, as langchain wants them."""
            return embedder.embed(texts, input_type="document").vectors.tolist()  # type: ignore[no-any-return]

        def embed_query(self, text: str) -> list[float]:
            """One vector."""
            return self.embed_documents([text])[0]

    begin = time.perf_counter()
    splitter = RecursiveCharacterTextSplitter(
        chunk_size=chunk_size, chunk_overlap=16, length_function=lambda text: len(embedder.tokenize(text))
    )
    texts = [piece for file in files for piece in splitter.split_text(file.read_text(encoding="utf-8"))]
    with tempfile.TemporaryDirectory() as folder:
        FAISS.from_texts(texts, Same()).save_local(folder)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
