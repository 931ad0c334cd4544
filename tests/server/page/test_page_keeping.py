"""What the page keeps in the browser: conversations, their export and import, and the reader's choices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fake_openai import Answer, FakeServer
from page_browser import Page

KEPT = "return Object.keys(localStorage).filter((k) => k.startsWith('ostro.conversation.'))"


def exported(page: Page) -> dict[str, Any]:
    """What a press on the button of all conversations would save."""
    page.check("catchFile()")
    page.click("#export")
    return json.loads(page.wait(lambda: page.js("return window.saved")))


def import_file(page: Page, path: Path, content: object) -> None:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    page.find("#import-file").send_keys(str(path))


def test_conversations_are_kept(page: Page, fake: FakeServer) -> None:
    page.ask("First topic")
    page.click("#new-chat")
    assert page.texts(".conversation-title") == ["New conversation", "First topic"]
    page.ask("Second topic")
    page.driver.refresh()
    page.wait_ready()
    assert page.texts(".conversation-title") == ["Second topic", "First topic"]
    assert page.text(".from-user .plain") == "Second topic"
    page.all(".conversation")[1].click()
    assert page.text(".from-user .plain") == "First topic"
    assert page.all(".conversation")[1].get_attribute("aria-current") == "page"
    page.driver.back()
    page.wait(lambda: page.text(".from-user .plain") == "Second topic")


def test_the_back_button_leaves_the_page(page: Page) -> None:
    page.click("#new-chat")
    for _ in range(2):
        page.driver.back()
    page.wait(lambda: "icon.svg" in page.driver.current_url)


def test_an_empty_conversation_leaves_nothing(page: Page, fake: FakeServer) -> None:
    page.click("#new-chat")
    page.click("#new-compare")
    page.click("#new-chat")
    assert page.count(".conversation") == 1
    assert page.js(KEPT) == []


def test_what_is_written_waits_in_its_conversation(page: Page, fake: FakeServer) -> None:
    page.ask("One")
    page.find("#prompt").send_keys("a draft")
    page.click("#new-chat")
    assert page.find("#prompt").get_attribute("value") == ""
    page.all(".conversation")[1].click()
    assert page.find("#prompt").get_attribute("value") == "a draft"


def test_an_answer_that_ran_when_the_page_was_closed(page: Page, fake: FakeServer) -> None:
    fake.default = Answer(pieces=["begun"] + ["."] * 400, pause=0.05)
    page.send("Hello")
    page.wait_text(".from-assistant .markdown", "begun")
    page.driver.refresh()
    page.wait_text(".note", "interrupted")
    assert page.text(".from-assistant .markdown").startswith("begun")


def test_rename_and_delete(page: Page, fake: FakeServer) -> None:
    page.ask("Hello")
    page.click("#more-button")
    page.click("#rename")
    page.fill("dialog input", "A better name")
    page.click("dialog .primary")
    page.wait_text(".conversation-title", "A better name")
    assert page.driver.title == "A better name · ostro"
    page.click("#more-button")
    page.click("#delete")
    assert "“A better name”" in page.text("dialog p")
    page.click("dialog .button:not(.danger)")
    assert len(page.js(KEPT)) == 1
    page.click("#more-button")
    page.click("#delete")
    page.click("dialog .danger")
    page.wait(lambda: page.js(KEPT) == [])
    assert page.texts(".conversation-title") == ["New conversation"]


def test_export_and_import_round_trip(page: Page, fake: FakeServer, tmp_path: Path) -> None:
    page.ask("Hello")
    page.click(".message:last-child [data-action=again]")
    page.wait_text(".pager", "2/2")
    page.wait_idle()
    page.click("#new-compare")
    page.ask("Both of you")
    file = exported(page)
    assert (file["format"], file["version"], len(file["conversations"])) == ("ostro-conversations", 1, 2)
    assert "sk-" not in json.dumps(file)
    import_file(page, tmp_path / "same.json", file)
    page.wait_text(".banner", "Nothing new")
    page.open()
    import_file(page, tmp_path / "all.json", file)
    page.wait_text(".banner", "2 conversations were imported.")
    assert page.texts(".conversation-title")[-2:] == ["Both of you", "Hello"]
    page.all(".conversation")[-1].click()
    assert page.text(".pager") == "2/2"
    assert {each["id"] for each in exported(page)["conversations"]} == {each["id"] for each in file["conversations"]}


GOOD_NODE = {"id": "a" * 24, "parent": None, "role": "user", "content": "hi"}
GOOD = {
    "id": "b" * 24,
    "kind": "chat",
    "title": "",
    "created": "2026-01-01T00:00:00Z",
    "updated": "2026-01-01T00:00:00Z",
    "settings": {"model": "", "system": "", "sampling": {}, "stop": "", "tools": "", "toolChoice": "auto"},
    "nodes": {"a" * 24: GOOD_NODE},
    "head": "a" * 24,
}


def wrapped(*conversations: object) -> dict[str, object]:
    return {"format": "ostro-conversations", "version": 1, "conversations": list(conversations)}


BAD_FILES = {
    "not JSON": ("{", "it is not JSON"),
    "something else": ({"conversations": []}, "not an export"),
    "newer": ({**wrapped(), "version": 2}, "newer version"),
    "wrong type": (wrapped(GOOD, {**GOOD, "title": 7}), "conversation 2 is damaged"),
    "no conversation": (wrapped(None), "conversation 1 is damaged"),
    "wrong id": (wrapped({**GOOD, "id": "../../x"}), "conversation 1 is damaged"),
    "circle": (wrapped({**GOOD, "nodes": {"a" * 24: {**GOOD_NODE, "parent": "a" * 24}}}), "conversation 1 is damaged"),
    "no such head": (wrapped({**GOOD, "head": "c" * 24}), "conversation 1 is damaged"),
    "role": (wrapped({**GOOD, "nodes": {"a" * 24: {**GOOD_NODE, "role": "root"}}}), "conversation 1 is damaged"),
}


def test_a_file_that_is_not_right_changes_nothing(page: Page, tmp_path: Path) -> None:
    for name, (content, problem) in BAD_FILES.items():
        import_file(page, tmp_path / f"{name}.json", content)
        page.wait_text(".banner", problem)
        page.click(".banner .icon-button")
    assert page.js(KEPT) == []
    assert page.count(".conversation") == 1


def test_a_hostile_file_brings_nothing_but_text(page: Page, tmp_path: Path) -> None:
    evil = "<img src=x onerror='window.hacked=1'>"
    text = json.dumps(
        wrapped({**GOOD, "title": evil, "extra": evil, "nodes": {"a" * 24: {**GOOD_NODE, "content": evil}}})
    )
    text = text.replace('"settings": {', '"__proto__": {"hacked": 1}, "settings": {"__proto__": {"hacked": 1}, ')
    import_file(page, tmp_path / "evil.json", text)
    page.wait_text(".banner", "1 conversation was imported.")
    page.all(".conversation")[-1].click()
    assert page.text(".from-user .plain") == evil
    assert page.js("return window.hacked ?? ({}).hacked") is None
    assert "extra" not in page.js(f"return localStorage.getItem('ostro.conversation.{GOOD['id']}')")


def test_a_full_storage_is_told_and_nothing_is_lost_meanwhile(page: Page, fake: FakeServer) -> None:
    page.js("Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }")
    page.js("Object.defineProperty(Storage.prototype, 'length', {get: () => 5, configurable: true})")
    page.ask("Hello")
    page.wait_text(".banner", "storage is full")
    page.click("#new-chat")
    page.all(".conversation")[1].click()
    assert page.text(".from-user .plain") == "Hello"


def test_what_another_tab_does_is_seen(page: Page, fake: FakeServer) -> None:
    page.ask("Hello")
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    try:
        page.enter()
        page.all(".conversation")[-1].click()
        page.ask("From the other tab")
        page.driver.close()
    finally:
        page.driver.switch_to.window(first)
    page.wait(lambda: page.texts(".from-user .plain") == ["Hello", "From the other tab"])
