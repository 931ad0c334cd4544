"""What the page says when something goes wrong, and how the reader gets on from there."""

from __future__ import annotations

import pytest
from fake_openai import Answer, FakeServer
from page_browser import Page

REFUSALS = {
    "busy": Answer(status=429, message="Too many.", headers={"retry-after": "1"}),
    "unavailable": Answer(status=503, message="Shutting down."),
    "context": Answer(status=400, message="Too long.", code="context_length_exceeded"),
    "request": Answer(status=400, message="temperature must be lower.", param="temperature"),
    "model": Answer(status=404, message="No such model."),
    "large": Answer(status=413, message="The body is larger.", param="messages"),
    "server": Answer(status=500, message="A fault."),
    "forbidden": Answer(status=403, message="Another origin."),
}
TITLES = {
    "busy": "The server is busy",
    "unavailable": "The server is not ready",
    "context": "no longer fits into the model's context",
    "request": "cannot run this request",
    "model": "does not have what was asked for",
    "large": "larger than the server takes",
    "server": "made a mistake (status 500)",
    "forbidden": "refuses requests from this page",
}


def test_a_refusal_is_explained_and_tried_again(page: Page, fake: FakeServer) -> None:
    for kind, refusal in REFUSALS.items():
        page.click("#new-chat")
        fake.answers.append(refusal)
        page.ask("Hello")
        assert page.find(".error-card").get_attribute("data-kind") == kind
        assert TITLES[kind] in page.text(".error-title")
        assert refusal.message in page.text(".error-text")
        assert ("The setting at fault: temperature." in page.text(".error-card")) == (kind == "request")
        page.wait(lambda: page.find(".error-buttons button").get_attribute("aria-disabled") == "false")
        page.click(".error-buttons button")
        page.wait_text(".from-assistant .markdown", "Hello there.")
        page.wait_idle()
        assert page.count(".error-card") == 0
        assert page.count(".message") == 2
        assert fake.requests[-2] == fake.requests[-1]


def test_the_time_that_a_busy_server_asks_for_is_waited(page: Page, fake: FakeServer) -> None:
    fake.answers.append(Answer(status=429, message="Later.", headers={"retry-after": "120"}))
    page.ask("Hello")
    assert "Try again in 1" in page.text(".error-buttons button")
    page.click(".error-buttons button")
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(pieces=["Half"], error_after="Out of memory."), "stream"),
        (Answer(pieces=["Half"], breaks=True), "cut"),
        (Answer(pieces=["Half"], finish=None), "cut"),
    ],
    ids=["error chunk", "connection", "no finish reason"],
)
def test_an_answer_that_breaks_off_keeps_what_came(page: Page, fake: FakeServer, answer: Answer, kind: str) -> None:
    fake.answers.append(answer)
    page.ask("Hello")
    assert page.text(".from-assistant .markdown") == "Half"
    assert page.find(".error-card").get_attribute("data-kind") == kind
    if answer.error_after:
        assert answer.error_after in page.text(".error-text")


def test_a_server_that_goes_and_comes_back(page: Page, fake: FakeServer) -> None:
    page.cdp("Network.enable")
    page.cdp("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    page.ask("Hello")
    assert "cannot be reached" in page.text(".error-title")
    page.wait_text(".banner", "cannot be reached")
    fake.models = ["a-new-one"]
    page.cdp("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    page.wait_text(".banner", "The server is back.")
    page.wait_text("#model option", "mistral-small (not served)")
    page.find("#model select").send_keys("a-new")
    page.click(".error-buttons button")
    page.wait_text(".from-assistant .markdown", "Hello there.")
    assert fake.requests[0]["model"] == "a-new-one"


def test_the_key_is_asked_for_when_the_server_wants_one(blank: Page, fake: FakeServer) -> None:
    fake.key = "sk-right-0123456789"
    blank.look()
    blank.driver.get(fake.url + "page/icon.svg")
    blank.js("localStorage.clear(); sessionStorage.clear()")
    blank.driver.get(fake.url)
    field = blank.find("dialog input[name=key]")
    assert field.get_attribute("type") == "password"
    assert blank.js("return document.activeElement.name") == "key"
    field.send_keys("한글\n")
    assert "printable ASCII" in blank.text("#key-problem")
    field.clear()
    field.send_keys("sk-wrong\n")
    blank.wait_text("#key-problem", "did not accept")
    blank.find("dialog input[name=key]").send_keys(fake.key + "\n")
    blank.wait(lambda: blank.count("dialog") == 0)
    blank.wait_text("#model option", "mistral-small")
    blank.ask("Hello")
    assert blank.text(".from-assistant .markdown") == "Hello there."
    assert blank.js("return localStorage.getItem('ostro.key')") is None
    assert blank.js("return sessionStorage.getItem('ostro.key')") == fake.key


def test_a_key_that_expires_amid_a_conversation(page: Page, fake: FakeServer) -> None:
    page.ask("One")
    fake.key = "sk-right-0123456789"
    page.send("Two")
    page.click("dialog .button:not(.primary)")
    page.wait(lambda: page.count("dialog") == 0)
    assert "needs an API key" in page.text(".error-title")
    page.click(".error-buttons button")
    page.find("dialog input[name=key]").send_keys(fake.key)
    page.js("[...document.querySelectorAll('dialog [type=checkbox]')].at(-1).click()")
    page.click("dialog .primary")
    page.wait(lambda: page.texts(".from-assistant .markdown") == ["Hello there."] * 2)
    assert page.js("return localStorage.getItem('ostro.key')") == fake.key
    page.click("#open-settings")
    page.click("#settings-body section:last-child .button")
    assert page.js("return localStorage.getItem('ostro.key') ?? sessionStorage.getItem('ostro.key')") is None


def test_a_server_without_models(blank: Page, fake: FakeServer) -> None:
    fake.models = []
    blank.open()
    blank.wait_text(".banner", "ostro serve MODEL")
    assert blank.text("#model option") == "No model"


def test_models_that_cannot_chat_are_not_offered(blank: Page, fake: FakeServer) -> None:
    fake.not_for_chat = ["an-embedding-model", "a-base-model"]
    blank.open()
    blank.wait_text("#model option", fake.models[0])
    assert blank.texts("#model option") == fake.models
    fake.models = []
    blank.enter()
    blank.wait_text("#banners", "no model for chat")
    assert not blank.find("#model select").is_enabled()
