"""Languages, keys, screens and appearances: that everyone can use the page."""

from __future__ import annotations

import re

import pytest
from fake_openai import Answer, FakeServer
from page_browser import Page
from selenium.webdriver.common.keys import Keys

NOT_TRANSLATED = {
    "ostro", "mistral", "small", "llama", "Hello", "aaa", "Too", "many", "Top", "Min", "temperature", "auto", "none",
    "required", "function", "JSON", "Enter", "Shift", "Esc", "English",
}  # fmt: skip
RICH = (
    "# Title\n\nText `code` [link](https://a.b)\n\n> quote\n\n| a | b |\n|--|--|\n| 1 | 2 |\n\n"
    "```python\n# note\nx = 'a' + 1 if x else None\n```"
)


def compose(page: Page, text: str) -> None:
    page.cdp("Input.imeSetComposition", text=text, selectionStart=len(text), selectionEnd=len(text))


def test_enter_that_ends_a_composition_sends_nothing(page: Page, fake: FakeServer) -> None:
    area = page.find("#prompt")
    area.click()
    compose(page, "한")
    compose(page, "한글")
    page.press("Enter", windowsVirtualKeyCode=13, code="Enter", text="\r")
    assert page.count(".message") == 0
    assert "한글" in area.get_attribute("value")
    page.cdp("Input.insertText", text="")
    area.clear()
    compose(page, "한")
    page.press("Process", windowsVirtualKeyCode=229, code="Enter")
    page.cdp("Input.insertText", text="한국")
    # Safari: the key comes after the composition, and only its code tells.
    key = "{key: 'Enter', keyCode: 229, bubbles: true, cancelable: true}"
    page.js(f"arguments[0].dispatchEvent(new KeyboardEvent('keydown', {key}))", area)
    assert fake.requests == []
    area.send_keys(Keys.ENTER)
    page.wait_text(".from-assistant .markdown", "Hello there.")
    assert [request["messages"][0]["content"] for request in fake.requests] == ["한국"]


def test_enter_that_ends_a_composition_saves_no_edit(page: Page, fake: FakeServer) -> None:
    page.ask("Hello")
    page.find("#prompt").send_keys(Keys.ARROW_UP)
    compose(page, "안녕")
    page.press("Enter", windowsVirtualKeyCode=13, code="Enter", text="\r")
    assert page.count(".edit-field") == 1
    assert len(fake.requests) == 1


def test_shift_enter_begins_a_line(page: Page, fake: FakeServer) -> None:
    area = page.find("#prompt")
    low = area.size["height"]
    area.send_keys("one", Keys.SHIFT, Keys.ENTER, Keys.NULL, "two")
    assert area.size["height"] > low
    page.ask("")
    assert fake.requests[0]["messages"][0]["content"] == "one\ntwo"


@pytest.mark.parametrize(
    ("languages", "shown"),
    [("ko-KR,ko,en", "ko"), ("en-US,en", "en"), ("fr,ko,en", "ko"), ("de", "en")],
)
def test_the_language_is_the_readers(blank: Page, languages: str, shown: str) -> None:
    blank.open(language=languages)
    assert blank.js("return document.documentElement.lang") == shown
    assert blank.text("#new-chat") == {"ko": "새 대화", "en": "New conversation"}[shown]


def test_the_language_changes_at_once_and_stays(page: Page, fake: FakeServer) -> None:
    fake.default = Answer(pieces=["a"] * 3, pause=0.01)
    page.ask("Hello")
    page.click("#open-settings")
    page.js("const l = document.getElementById('language'); l.value = 'ko'; l.dispatchEvent(new Event('change'))")
    assert page.text("#open-settings") == "설정"
    assert page.texts(".stats span")[2] == "답변 4토큰"
    assert page.text("#settings .section-title") == "시스템 프롬프트"
    assert page.find("#prompt").get_attribute("placeholder") == "메시지를 입력하세요"
    fake.answers.append(Answer(status=429, message="Too many."))
    page.ask("또")
    assert page.text(".error-title") == "서버가 다른 요청을 처리하느라 바쁩니다."
    shown = page.js("return document.body.innerText")
    left = set(re.findall(r"[A-Za-z]{3,}", shown)) - NOT_TRANSLATED
    assert left == set()
    page.driver.refresh()
    page.wait_ready()
    assert page.js("return document.documentElement.lang") == "ko"


def test_korean_text_is_marked_as_korean(page: Page, fake: FakeServer) -> None:
    fake.default = Answer(pieces=["안녕하세요."])
    page.ask("Hello")
    assert page.find(".from-assistant .markdown").get_attribute("lang") == "ko"
    assert page.find(".from-user .plain").get_attribute("lang") in (None, "")


def tab_stops(page: Page, most: int = 80) -> list[str]:
    """What the key Tab reaches, and that each shows that it is reached."""
    page.js("document.getElementById('skip').focus()")
    stops = ["skip"]
    for _ in range(most):
        page.press("Tab", windowsVirtualKeyCode=9, code="Tab")
        stop = page.check("focusStop()")
        if stop[2] or stop[0] == stops[0]:
            break
        assert stop[1], f"{stop[0]} does not show that it has the focus"
        stops.append(stop[0].strip())
    return stops


def test_everything_is_reached_by_key(page: Page, fake: FakeServer) -> None:
    fake.default = Answer(pieces=[RICH])
    page.ask("Hello")
    stops = tab_stops(page)
    expected = [
        "skip",
        "new-chat",
        "new-compare",
        "export",
        "import",
        "language",
        "theme",
        "open-settings",
        "more-button",
        "prompt",
        "send",
    ]
    assert [stop for stop in stops if stop in expected] == expected
    assert {"Hello", "Copy", "Edit", "Answer again", "link", "Model"} <= set(stops)


def test_a_comparison_is_reached_by_key(page: Page, fake: FakeServer) -> None:
    page.click("#new-compare")
    page.ask("Hello")
    stops = tab_stops(page)
    assert {"Side A: Model", "Settings of A", "Side B: Model", "Settings of B", "Run again", "prompt"} <= set(stops)


def test_a_conversation_by_keys_alone(page: Page, fake: FakeServer) -> None:
    assert page.focused() == "prompt"
    page.ask("Hello")
    for _ in range(2):
        page.press("Tab", windowsVirtualKeyCode=9, code="Tab", modifiers=8)
    assert page.js("return document.activeElement.title") == "Edit"
    page.press("Tab", windowsVirtualKeyCode=9, code="Tab")
    assert page.js("return document.activeElement.title") == "Answer again"
    page.press("Enter", windowsVirtualKeyCode=13, code="Enter", text="\r")
    page.wait_text(".pager", "2/2")
    page.wait_idle()
    assert page.focused() == "prompt"


def test_controls_have_names_and_text_has_contrast(blank: Page, fake: FakeServer) -> None:
    for scheme in ("light", "dark"):
        blank.open(scheme=scheme)
        assert blank.js("return getComputedStyle(document.body).colorScheme") == "light dark"
        assert blank.check("lowContrast()") == []
        fake.answers.extend([Answer(pieces=[RICH]), Answer(status=429, message="Later.")])
        blank.ask("Hello")
        blank.ask("Again")
        blank.click("#open-settings")
        blank.fill("#set-temperature", "9")
        assert blank.check("lowContrast()") == []
        assert blank.check("unnamed()") == []
        blank.find("#set-temperature").send_keys(Keys.BACKSPACE)
        blank.click("#close-settings")
        blank.click("#new-compare")
        blank.ask("Hello")
        assert blank.check("lowContrast()") == []
        assert blank.check("unnamed()") == []


def test_the_appearance_can_be_chosen(blank: Page) -> None:
    page = blank.open(scheme="light")
    background = "return getComputedStyle(document.body).backgroundColor"
    light = page.js(background)
    page.js("const t = document.getElementById('theme'); t.value = 'dark'; t.dispatchEvent(new Event('change'))")
    dark = page.js(background)
    assert dark != light
    page.driver.refresh()
    page.wait_ready()
    assert page.js(background) == dark
    page.enter(scheme="dark")
    page.js("const t = document.getElementById('theme'); t.value = 'auto'; t.dispatchEvent(new Event('change'))")
    assert page.js(background) == dark
    page.look(scheme="light")
    assert page.js(background) == light


def test_what_happens_is_told_to_screen_readers(page: Page, fake: FakeServer) -> None:
    page.check("listen()")
    fake.default = Answer(pieces=["Hello ", "there."], pause=0.1)
    page.ask("Hello")
    page.wait(lambda: "Answer complete. Hello there." in page.js("return told"))
    assert page.js("return told")[0] == "The model is answering."
    fake.default = Answer(status=503, message="Shutting down.")
    page.ask("Again")
    page.wait(lambda: any("not ready" in told and "Shutting down." in told for told in page.js("return told")))
    assert page.find("#announcer").get_attribute("aria-live") == "polite"
    assert page.find("#banners").get_attribute("role") == "status"


@pytest.mark.parametrize("width", [320, 768])
def test_on_a_phone(blank: Page, fake: FakeServer, width: int) -> None:
    page = blank.open(width=width, height=700)
    fake.default = Answer(pieces=[RICH + "\n\n" + "long" * 60])
    page.ask("word" * 40)
    assert not page.check("isTooWide()")
    assert not page.find("#nav").is_displayed()
    page.click("#open-nav")
    assert page.find("#nav").is_displayed()
    assert page.js("return document.getElementById('main').inert")
    assert page.focused() == "close-nav"
    page.press("Escape", windowsVirtualKeyCode=27, code="Escape")
    assert not page.find("#nav").is_displayed()
    assert not page.js("return document.getElementById('main').inert")
    assert page.focused() == "open-nav"
    page.click("#open-settings")
    assert page.js("return document.getElementById('settings').getBoundingClientRect().width") <= width
    page.click("#close-settings")
    page.click("#open-nav")
    page.click("#new-compare")
    assert not page.find("#nav").is_displayed()
    assert page.js("return document.getElementById('scroll').scrollTop") == 0
    page.ask("Hello")
    assert not page.check("isTooWide()")


def test_on_glass_enter_begins_a_line(blank: Page, fake: FakeServer) -> None:
    blank.look(width=390, height=700, touch=True)
    blank.driver.get(fake.url)
    blank.wait_ready()
    blank.look(width=390, height=700, touch=True)
    assert blank.text("#composer-hint") == "Enter begins a new line"
    blank.find("#prompt").send_keys("one" + Keys.ENTER + "two")
    assert fake.requests == []
    blank.click("#send")
    blank.wait_text(".from-assistant .markdown", "Hello there.")
    assert fake.requests[0]["messages"][0]["content"] == "one\ntwo"
