"""A conversation on the page, by mouse and keys in a real browser, against a server that says what the test wants."""

from __future__ import annotations

import json
import threading

import pytest
from fake_openai import Answer, FakeServer
from page_browser import Page
from selenium.webdriver.common.keys import Keys

LAST = ".message:last-child"


def test_an_answer_streams(page: Page, fake: FakeServer) -> None:
    gate = threading.Event()
    fake.default = Answer(pieces=["First **half**", ", second half."], gate=gate)
    page.send("Hello")
    page.wait_text(".from-assistant .markdown", "First half")
    assert "second" not in page.text(".from-assistant .markdown")
    assert page.find("#send").get_attribute("aria-label") == "Stop the answer"
    gate.set()
    page.wait_idle()
    assert page.text(".from-assistant .markdown") == "First half, second half."
    assert page.texts(".from-assistant .markdown strong") == ["half"]
    assert page.text(".from-user .plain") == "Hello"
    assert fake.requests == [
        {
            "messages": [{"role": "user", "content": "Hello"}],
            "model": "mistral-small",
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


def test_what_is_counted_is_shown(page: Page, fake: FakeServer) -> None:
    details = {"completion_tokens": 1234, "prompt_tokens_details": {"cached_tokens": 8}}
    fake.default = Answer(pieces=["a"] * 5, pause=0.01, usage=details)
    page.ask("Hello")
    first, rate, answer, prompt, total = page.texts(f"{LAST} .stats span")
    assert first.startswith("first token 0.")
    assert rate.endswith(" tokens/s")
    assert answer == "1,234 answer tokens"
    assert prompt == "12 prompt (8 from cache)"
    assert total.startswith("total 0.")


def test_the_conversation_goes_along(page: Page, fake: FakeServer) -> None:
    page.ask("One")
    page.ask("Two")
    assert [message["content"] for message in fake.requests[1]["messages"]] == ["One", "Hello there.", "Two"]
    assert [message["role"] for message in fake.requests[1]["messages"]] == ["user", "assistant", "user"]


@pytest.mark.parametrize("how", ["button", "escape"])
def test_stop(page: Page, fake: FakeServer, how: str) -> None:
    fake.default = Answer(pieces=["begun", " never"], gate=threading.Event())
    page.send("Hello")
    page.wait_text(".from-assistant .markdown", "begun")
    if how == "button":
        page.click("#send")
    else:
        page.find("#prompt").send_keys(Keys.ESCAPE)
    page.wait_idle()
    assert page.text(".from-assistant .markdown") == "begun"
    assert page.text(".note") == "Stopped."
    assert "at least 1 answer token" in page.texts(".stats span")
    assert page.focused() == "prompt"
    page.wait(lambda: fake.num_stopped == 1)
    fake.default = Answer()
    page.ask("Go on")
    assert fake.requests[1]["messages"][1] == {"role": "assistant", "content": "begun"}


def test_enter_sends_nothing_while_an_answer_comes(page: Page, fake: FakeServer) -> None:
    gate = threading.Event()
    fake.default = Answer(gate=gate)
    page.send("Hello")
    page.wait_text(".from-assistant .markdown", "Hello")
    page.send("Too early")
    gate.set()
    page.wait_idle()
    assert len(fake.requests) == 1
    assert page.find("#prompt").get_attribute("value") == "Too early"


def test_answer_again_and_look_at_both(page: Page, fake: FakeServer) -> None:
    fake.answers.extend([Answer(pieces=["one"]), Answer(pieces=["two"])])
    page.ask("Hello")
    page.click(f"{LAST} [data-action=again]")
    page.wait_text(".from-assistant .markdown", "two")
    page.wait_idle()
    assert fake.requests[1]["messages"] == [{"role": "user", "content": "Hello"}]
    assert page.find(".pager [role=img]").get_attribute("aria-label") == "Version 2 of 2"
    page.click(".pager [data-action=left]")
    page.wait_text(".from-assistant .markdown", "one")
    assert page.text(".pager") == "1/2"
    page.driver.refresh()
    page.wait_text(".from-assistant .markdown", "one")
    assert page.text(".pager") == "1/2"


def test_edit_a_message(page: Page, fake: FakeServer) -> None:
    page.ask("Onee")
    page.ask("Two")
    page.js("document.querySelector('.from-user [data-action=edit]').click()")
    assert page.focused() == "field edit-field"
    field = page.find(".edit-field")
    field.clear()
    field.send_keys("One" + Keys.ENTER)
    page.wait(lambda: page.count(".from-user") == 1)
    page.wait_idle()
    assert fake.requests[2]["messages"] == [{"role": "user", "content": "One"}]
    assert page.text(".from-user .pager") == "2/2"
    page.js("document.querySelector('.from-user .pager button').click()")
    page.wait(lambda: page.texts(".from-user .plain") == ["Onee", "Two"])


def test_leave_an_edit_with_escape(page: Page, fake: FakeServer) -> None:
    page.ask("Hello")
    page.find("#prompt").send_keys(Keys.ARROW_UP)
    page.find(".edit-field").send_keys("x" + Keys.ESCAPE)
    assert page.count(".edit-field") == 0
    assert page.text(".from-user .plain") == "Hello"
    assert page.focused() == "icon-button"
    assert len(fake.requests) == 1


def test_edit_an_answer(page: Page, fake: FakeServer) -> None:
    page.ask("Hello")
    page.click(f"{LAST} [data-action=edit]")
    page.find(".edit-field").clear()
    page.find(".edit-field").send_keys("Words put into its mouth")
    page.click(".editor .primary")
    page.wait_text(".from-assistant .markdown", "Words put")
    page.ask("Go on")
    assert fake.requests[1]["messages"][1]["content"] == "Words put into its mouth"


def test_settings_are_sent(page: Page, fake: FakeServer) -> None:
    page.click("#open-settings")
    values = {"temperature": "0.5", "max_tokens": "64", "top_k": "20", "seed": "7", "presence_penalty": "-1"}
    for name, value in values.items():
        page.fill(f"#set-{name}", value)
    page.fill("#set-system", "Be brief.")
    page.fill("#set-stop", "END\n\n##")
    page.ask("Hello")
    (body,) = fake.requests
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert {name: body[name] for name in values} == {name: json.loads(value) for name, value in values.items()}
    assert body["stop"] == ["END", "##"]
    assert {"top_p", "min_p", "repetition_penalty", "tools"}.isdisjoint(body)
    assert page.text(".system summary") == "System prompt"
    page.click("#settings .link-button")
    page.ask("Again")
    assert {"temperature", "stop", "seed"}.isdisjoint(fake.requests[1])
    assert fake.requests[1]["messages"][0]["role"] == "system"


def test_settings_are_checked(page: Page, fake: FakeServer) -> None:
    page.click("#open-settings")
    page.fill("#set-temperature", "warm")
    page.fill("#set-top_k", "1.5")
    page.fill("#set-tools", '[{"type": "function"}]')
    assert page.text("#set-temperature-problem") == "A number from 0 to 2."
    assert page.text("#set-top_k-problem") == "A whole number of at least 0."
    assert "entry 1 needs type" in page.text("#set-tools-problem")
    page.click("#close-settings")
    page.send("Hello")
    page.wait(lambda: page.focused() == "set-temperature")
    assert page.find("#prompt").get_attribute("value") == "Hello"
    assert fake.requests == []
    page.find("#set-temperature").send_keys(Keys.ARROW_UP)
    assert page.find("#set-temperature").get_attribute("value") == "1"
    page.find("#set-temperature").send_keys(Keys.ARROW_DOWN)
    assert page.find("#set-temperature").get_attribute("value") == "0.9"


def test_another_model(page: Page, fake: FakeServer) -> None:
    page.find("#model select").send_keys("llama")
    page.ask("Hello")
    assert fake.requests[0]["model"] == "llama-3.2-3b"
    assert page.text(".from-assistant .message-name") == "llama-3.2-3b"
    page.click("#new-chat")
    assert page.find("#model select").get_attribute("value") == "llama-3.2-3b"


def test_tool_calls_and_their_results(page: Page, fake: FakeServer) -> None:
    calls = [("abcdefghi", "get_weather", '{"city":"Seoul"}'), ("jklmnopqr", "get_weather", '{"city":"Paris"}')]
    fake.answers.extend([Answer(pieces=[], calls=calls, finish="tool_calls"), Answer(pieces=["Warm in both."])])
    page.click("#open-settings")
    page.js("[...document.querySelectorAll('#settings .link-button')].at(-1).click()")
    page.ask("Weather?")
    assert fake.requests[0]["tools"][0]["function"]["name"] == "get_weather"
    assert fake.requests[0]["tool_choice"] == "auto"
    assert page.texts(".tool-call header code") == ["get_weather", "get_weather"]
    assert page.texts(".tool-call pre")[0] == '{\n  "city": "Seoul"\n}'
    assert page.texts(".tool-results label span")[1] == 'What get_weather({"city":"Paris"}) returns'
    first, second = page.all(".tool-results textarea")
    first.send_keys("21")
    second.send_keys("19")
    page.click(".tool-results .primary")
    page.wait_text(".from-assistant .markdown", "Warm in both.")
    page.wait_idle()
    assistant, *results = fake.requests[1]["messages"][1:]
    assert [call["id"] for call in assistant["tool_calls"]] == ["abcdefghi", "jklmnopqr"]
    assert assistant["tool_calls"][1]["function"] == {"name": "get_weather", "arguments": '{"city":"Paris"}'}
    assert [(result["tool_call_id"], result["content"]) for result in results] == [
        ("abcdefghi", "21"),
        ("jklmnopqr", "19"),
    ]
    assert page.count(".tool-results textarea") == 0


def test_an_answer_cut_short_says_so(page: Page, fake: FakeServer) -> None:
    fake.answers.extend([Answer(finish="length"), Answer(pieces=[])])
    page.ask("Hello")
    assert "limit of tokens" in page.text(".note")
    page.ask("Nothing?")
    assert page.texts(".note")[-1] == "The answer is empty."


def test_hostile_text_from_everywhere(page: Page, fake: FakeServer) -> None:
    evil = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
    fake.models = [evil, "other"]
    fake.default = Answer(pieces=[evil], calls=[(evil, evil, evil)], finish="tool_calls")
    page.driver.refresh()
    page.wait(lambda: page.find("#model select").get_attribute("value") == evil)
    page.ask(evil)
    fake.default = Answer(status=400, message=evil, param=evil)
    page.ask(evil)
    assert evil in page.text(".error-text")
    assert evil in page.text(".tool-call header")
    assert page.text(".conversation-title").startswith("<img src=x")
    assert page.count("#thread img, #thread script, #nav img") == 0
    assert page.js("return window.hacked") is None


def test_a_long_answer_is_followed_until_the_reader_scrolls_away(page: Page, fake: FakeServer) -> None:
    gate = threading.Event()
    fake.default = Answer(pieces=["line\n\n" * 60, "end"], gate=gate)
    page.send("Hello")
    bottom = "const s = document.getElementById('scroll'); return s.scrollHeight - s.scrollTop - s.clientHeight"
    page.wait(lambda: page.count(".markdown p") == 60 and page.js(bottom) < 2)
    page.js("document.getElementById('scroll').scrollTop = 0")
    page.wait(lambda: page.find("#latest").is_displayed())
    gate.set()
    page.wait_idle()
    assert page.js("return document.getElementById('scroll').scrollTop") == 0
    page.click("#latest")
    page.wait(lambda: page.js(bottom) < 2)


def test_answers_go_on_in_a_conversation_that_is_not_shown(page: Page, fake: FakeServer) -> None:
    gate = threading.Event()
    fake.answers.append(Answer(pieces=["slow", " end"], gate=gate))
    page.send("One")
    page.wait_text(".from-assistant .markdown", "slow")
    page.click("#new-chat")
    page.wait(lambda: page.count(".conversation .pulse") == 1)
    page.ask("Two")
    assert page.texts(".from-user .plain") == ["Two"]
    gate.set()
    page.wait(lambda: page.count(".conversation .pulse") == 0)
    assert page.texts(".from-user .plain") == ["Two"]
    page.all(".conversation")[1].click()
    page.wait_text(".from-assistant .markdown", "slow end")
