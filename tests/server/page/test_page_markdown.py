"""The Markdown of the page, rendered in the browser as answers are."""

from __future__ import annotations

from typing import Any

import pytest
from fake_openai import FakeServer
from hypothesis import given, settings
from hypothesis import strategies as st
from page_browser import Page
from selenium.webdriver import Chrome

RENDER = "a[0].map((texts) => rendered(m, texts))"
ELEMENTS = {
    "p", "br", "h3", "h4", "h5", "h6", "ul", "ol", "li", "input", "blockquote", "hr", "strong", "em", "del", "a",
    "code", "pre", "div", "span", "button", "svg", "path", "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip
ATTRIBUTES = {
    "class", "type", "disabled", "checked", "aria-label", "aria-hidden", "href", "title", "target", "rel", "start",
    "tabindex", "role", "viewBox", "d",
}  # fmt: skip
ATOMS = [
    "*", "**", "_", "~~", "`", "```", "~~~", "\n", "\n\n", "    ", "  ", "- ", "1. ", "> ", "# ", "|", "|-|-|\n", "[",
    "](", ")", "<", ">", "&", '"', "\\", "http://a.b", "javascript:alert(1)", "<b>", "<script>", "<!--", "a", "한글",
    "을", "(", "!", "[x] ", "\t", "\r\n", "\u202e", "\x00", "😀", "&lt;", "mailto:a@b.c", "---",
]  # fmt: skip


@pytest.fixture(scope="module")
def renderer(chromium: Chrome, fake_server: FakeServer) -> Page:
    fake_server.reset()
    return Page(chromium, fake_server.url).open()


def render(page: Page, *texts: str) -> list[dict[str, Any]]:
    return page.call("markdown/view.js", RENDER, [[text] for text in texts])


CASES = {
    "plain": "<p>plain</p>",
    "one\ntwo": "<p>one<br>two</p>",
    "one  \ntwo\\\nthree": "<p>one<br>two<br>three</p>",
    "# One\n\n## Two ##\n\n####### no": "<h3>One</h3><h4>Two</h4><p>####### no</p>",
    "#no": "<p>#no</p>",
    "**b** *i* ~~d~~ `c`": "<p><strong>b</strong> <em>i</em> <del>d</del> <code>c</code></p>",
    "***bi***": "<p><em><strong>bi</strong></em></p>",
    "snake_case_name 2 * 3 * 4 3~5": "<p>snake_case_name 2 * 3 * 4 3~5</p>",
    "*a**b*": "<p><em>a**b</em></p>",
    "**open": "<p>**open</p>",
    '**"단어"**은 **뜻(풀이)**는': '<p><strong>"단어"</strong>은 <strong>뜻(풀이)</strong>는</p>',
    "`` a`b `` `x": "<p><code>a`b</code> `x</p>",
    "\\*a\\* \\# b": "<p>*a* # b</p>",
    "<b>&amp;<br>": "<p>&lt;b&gt;&amp;amp;<br></p>",
    "- a\n- b\n  - c\n- d": "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>",
    "1. a\n  - b\n2. c": "<ol><li>a<ul><li>b</li></ul></li><li>c</li></ol>",
    "3. a\n4. b": '<ol start="3"><li>a</li><li>b</li></ol>',
    "1. a\n\n   more\n\n2. b": "<ol><li>a<p>more</p></li><li>b</li></ol>",
    "- a\n\n```\nx\n```": None,
    "text\n- a\n* b": "<p>text</p><ul><li>a</li></ul><ul><li>b</li></ul>",
    "In\n2020. was": "<p>In<br>2020. was</p>",
    "> a\n> > b\nc": "<blockquote><p>a</p><blockquote><p>b<br>c</p></blockquote></blockquote>",
    "a\n---\nb": "<p>a</p><hr><p>b</p>",
    "| a | b |\n|---|--:|\n| `x|y` | c\\|d |\nend": None,
}


@pytest.mark.parametrize("text", [text for text, html in CASES.items() if html is not None])
def test_what_models_write(renderer: Page, text: str) -> None:
    assert render(renderer, text)[0]["html"] == CASES[text]


def test_task_list(renderer: Page) -> None:
    html = render(renderer, "- [x] done\n- [ ] not")[0]["html"]
    assert html.count("<input") == 2
    assert html.count("checked") == 1


def test_table(renderer: Page) -> None:
    html = render(renderer, "| a | b |\n|---|--:|\n| `x|y` | c\\|d |\n| one |\n\nend")[0]["html"]
    assert '<th>a</th><th class="align-right">b</th>' in html
    assert '<td><code>x|y</code></td><td class="align-right">c|d</td>' in html
    assert "<tr><td>one</td></tr>" in html
    assert html.endswith("<p>end</p>")
    assert "<table" not in render(renderer, "a | b\n\n|---|---|")[0]["html"]


def test_code(renderer: Page) -> None:
    text = '```python\ndef f(x):  # <b>no</b>\n    return "a" + 1\n```\nafter'
    html = render(renderer, text)[0]["html"]
    assert '<span class="tok-keyword">def</span>' in html
    assert '<span class="tok-comment"># &lt;b&gt;no&lt;/b&gt;</span>' in html
    assert html.endswith("<p>after</p>")
    open_fence, closed, tildes, inside_list = render(
        renderer, "```\na\n\n# b", "````\n```\n````", "~~~ js\n`x`\n~~~", "- a\n  ```\n  x\n    y\n  ```\n- b"
    )
    assert open_fence["html"].endswith("<code>a\n\n# b</code></pre></div>")
    assert closed["html"].endswith("<code>```</code></pre></div>")
    assert '<span class="code-language">js</span>' in tildes["html"]
    assert "<code>x\n  y</code></pre></div></li><li>b</li></ul>" in inside_list["html"]


LINKS = {
    '[a](https://b.c/d_(e) "t")': ("https://b.c/d_(e)", "a"),
    "<https://b.c>": ("https://b.c/", "https://b.c"),
    "(see https://b.c/d.)": ("https://b.c/d", "https://b.c/d"),
    "https://b.c/d에서 https": ("https://b.c/d", "https://b.c/d"),
    "https://ko.wikipedia.org/wiki/온돌 에서": (
        "https://ko.wikipedia.org/wiki/%EC%98%A8%EB%8F%8C",
        "https://ko.wikipedia.org/wiki/온돌",
    ),
    "![picture](https://b.c/p.png)": ("https://b.c/p.png", "picture"),
    "[**b**](mailto:a@b.c)": ("mailto:a@b.c", "b"),
}


@pytest.mark.parametrize("text", LINKS)
def test_links(renderer: Page, text: str) -> None:
    href, label = LINKS[text]
    assert render(renderer, text)[0]["links"] == [[href, label, "noopener noreferrer nofollow", "_blank", href]]


@pytest.mark.parametrize(
    "target",
    [
        "javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\tscript:alert(1)", "&#106;avascript:alert(1)",
        "data:text/html,x",
        "vbscript:x", "file:///etc/passwd", "//evil.example", "/v1/models", "blob:null/b", " javascript:alert(1)",
    ],
)  # fmt: skip
def test_no_other_links(renderer: Page, target: str) -> None:
    for result in render(renderer, f"[a]({target})", f"[a](<{target}>)", f"![a]({target})", f"<{target}>"):
        assert result["links"] == []
        assert "a" in result["text"] or target in result["text"]


HOSTILE = [
    "<script>window.hacked=1</script>", "<img src=x onerror=window.hacked=1>", "<svg/onload=window.hacked=1>",
    "```html\n<img src=x onerror=window.hacked=1>\n```", "```\"><img src=x onerror=window.hacked=1>\nx\n```",
    "| <img src=x onerror=window.hacked=1> |\n|-|\n| <iframe srcdoc='<script>parent.hacked=1</script>'> |",
    "[<img src=x onerror=window.hacked=1>](https://a.b/\"onmouseover=\"window.hacked=1)",
    "<style>*{display:none}</style>",
    "<a href=javascript:window.hacked=1>x</a>", "# <base href=//evil.example>",
    "- [x] <form action=//evil.example><button>x",
    "`<b>`", "&lt;script&gt;", "<!--><script>window.hacked=1</script>-->", "\x00<script>window.hacked=1</script>",
]  # fmt: skip


def test_hostile_text_stays_text(renderer: Page) -> None:
    for text, result in zip(HOSTILE, render(renderer, *HOSTILE), strict=True):
        assert set(result["elements"]) <= ELEMENTS, text
        assert set(result["attributes"]) <= ATTRIBUTES, text
    assert renderer.js("return window.hacked") is None


ENDLESS = [
    "*" * 50000, "*a " * 20000 + "a* " * 20000, "[" * 50000, "[](" * 20000, "![" * 30000, ">" * 50000, "- " * 30000,
    "`" * 300 + "".join("`" * n + "x" for n in range(300)), "#" + " " * 100000 + "x", "_a" * 30000, "http://" * 10000,
    "|a" * 5000 + "\n" + "|-" * 5000 + "\n" + "|\n" * 5000, "[a](" + "(" * 50000, "[a](x " + " " * 50000,
    "- a\n" * 5000,
    "\n".join(" " * n + "- a" for n in range(500)), "> a\n" * 20000, "<" * 50000, "a|b\n" * 20000, "~~" * 30000,
]  # fmt: skip


@pytest.mark.parametrize("text", ENDLESS, ids=lambda text: text[:8].strip() or "spaces")
def test_text_made_to_stall_the_page_does_not(renderer: Page, text: str) -> None:
    """What takes more than linear time on these does not come back before the browser's patience ends."""
    (result,) = render(renderer, text)
    assert result["depth"] < 80


@settings(max_examples=15)
@given(st.lists(st.lists(st.sampled_from(ATOMS), max_size=30).map("".join), min_size=40, max_size=40))
def test_any_text_gives_only_what_the_page_allows(renderer: Page, texts: list[str]) -> None:
    for text, result in zip(texts, render(renderer, *texts), strict=True):
        assert set(result["elements"]) <= ELEMENTS, text
        assert set(result["attributes"]) <= ATTRIBUTES, text
        assert set(result["protocols"]) <= {"http:", "https:", "mailto:"}, text


@settings(max_examples=15)
@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from(ATOMS), max_size=30).map("".join), st.lists(st.integers(0, 80), max_size=6)),
        min_size=30,
        max_size=30,
    )
)
def test_a_text_that_grows_looks_as_if_it_had_come_at_once(renderer: Page, cases: list[tuple[str, list[int]]]) -> None:
    grown = [[*(text[:end] for end in sorted(ends)), text] for text, ends in cases]
    whole = [[text] for text, _ in cases]
    results = renderer.call("markdown/view.js", RENDER, grown + whole)
    for step, one in zip(results[: len(grown)], results[len(grown) :], strict=True):
        assert step["html"] == one["html"]


def test_blocks_that_do_not_change_keep_their_elements(renderer: Page) -> None:
    assert renderer.call(
        "markdown/view.js",
        """(() => { const e = document.createElement("div"), view = new m.MarkdownView(e);
        view.update("# a\\n\\nb", {}); const before = [...e.children]; view.update("# a\\n\\nb c\\n\\nd", {});
        return [before[0] === e.children[0], before[1] === e.children[1], e.children.length]; })()""",
    ) == [True, False, 3]
