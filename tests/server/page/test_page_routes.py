"""The files of the page and the headers that they come with; no browser is needed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

import ostro.server.page_routes as routes

FOLDER = Path(routes.__file__).parent / "page"
SCRIPTS = sorted(FOLDER.rglob("*.js"))
WORD = re.compile(r'^  "([\w.]+)":', re.MULTILINE)
USED = re.compile(
    r'\bt\(\s*"([\w.]+)"|data-t(?:-label|-placeholder)?="([\w.]+)"|key: "([\w.]+)"|ImportProblem\("([\w.]+)"'
)


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI()
    app.include_router(routes.page_router())
    return TestClient(app, base_url="http://127.0.0.1:8000")


def test_the_page_comes_with_strict_headers(client: TestClient) -> None:
    for path in ("/", "/page/main.js", "/page/base.css", "/page/markdown/view.js"):
        response = client.get(path)
        assert response.status_code == 200
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"


def test_media_types(client: TestClient) -> None:
    assert client.get("/").headers["content-type"] == "text/html; charset=utf-8"
    assert client.get("/page/main.js").headers["content-type"] == "text/javascript; charset=utf-8"
    assert client.get("/page/base.css").headers["content-type"] == "text/css; charset=utf-8"
    assert client.get("/page/icon.svg").headers["content-type"] == "image/svg+xml"


def test_a_file_that_the_browser_has_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/page/main.js")
    again = client.get("/page/main.js", headers={"if-none-match": f'"other", W/{first.headers["etag"]}'})
    assert again.status_code == 304
    assert again.content == b""
    assert client.get("/page/main.js", headers={"if-none-match": '"other"'}).status_code == 200


def test_head_and_what_is_not_there(client: TestClient) -> None:
    assert client.head("/").status_code == 200
    for path in (
        "/page/index.html",
        "/page/none.js",
        "/page/../page_routes.py",
        "/page/%2e%2e/page_routes.py",
        "/page/",
    ):
        assert client.get(path).status_code == 404
    assert client.post("/").status_code == 405


def test_the_page_is_no_part_of_the_api(client: TestClient) -> None:
    assert client.get("/openapi.json").json()["paths"] == {}


def test_all_that_is_named_is_there_and_nothing_is_fetched_from_elsewhere() -> None:
    names = set(routes.page_files())
    index = (FOLDER / "index.html").read_text(encoding="utf-8")
    named = re.findall(r'(?:src|href)="(page/[^"]+)"', index)
    assert len(named) > 5
    assert {name.removeprefix("page/") for name in named} <= names
    for script in SCRIPTS:
        for target in re.findall(r'from "(\.[^"]+)"', script.read_text(encoding="utf-8")):
            assert (script.parent / target).resolve().is_file(), f"{script.name} imports {target}"
    for file in FOLDER.rglob("*.*"):
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"""(?:src|href|url|fetch|import)\s*[=(]?\s*["'(]https?:""", text), file.name


def test_no_script_makes_markup_of_text() -> None:
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc|DOMParser"
    )
    for script in SCRIPTS:
        assert not forbidden.search(script.read_text(encoding="utf-8")), script.name


def test_both_languages_have_the_same_words() -> None:
    texts = {name: (FOLDER / f"words-{name}.js").read_text(encoding="utf-8") for name in ("en", "ko")}
    english, korean = (WORD.findall(text) for text in texts.values())
    assert english == korean
    assert len(set(english)) == len(english)
    holes = {name: dict(re.findall(r'^  "([\w.]+)": "(.*)",$', text, re.MULTILINE)) for name, text in texts.items()}
    for key in holes["en"].keys() & holes["ko"].keys():
        found = [sorted(re.findall(r"\{\w+\}", holes[name][key])) for name in ("en", "ko")]
        assert found[0] == found[1], key


def test_every_word_that_is_used_is_there() -> None:
    words = set(WORD.findall((FOLDER / "words-en.js").read_text(encoding="utf-8")))
    used = set()
    for file in [*SCRIPTS, FOLDER / "index.html"]:
        used |= {next(filter(None, groups)) for groups in USED.findall(file.read_text(encoding="utf-8"))}
    assert len(used) > 80
    assert used <= words


def test_files_are_short() -> None:
    for file in FOLDER.rglob("*.*"):
        assert len(file.read_text(encoding="utf-8").splitlines()) < 400, file.name
