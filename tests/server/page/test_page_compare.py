"""The comparison of two models or settings."""

from __future__ import annotations

import threading

from fake_openai import Answer, FakeServer
from page_browser import Page
from selenium.webdriver.common.keys import Keys


def test_two_models_get_the_same_message(page: Page, fake: FakeServer) -> None:
    page.click("#new-compare")
    assert [select.get_attribute("value") for select in page.all(".side select")] == ["mistral-small", "llama-3.2-3b"]
    fake.answers.extend(
        [Answer(pieces=["short"] * 3, pause=0.01), Answer(pieces=["slow"] * 3, first_pause=0.3, pause=0.02)]
    )
    page.ask("Compare")
    assert [request["model"] for request in fake.requests] == ["mistral-small", "llama-3.2-3b"]
    assert page.texts(".card .markdown") == ["short" * 3, "slow" * 3]
    rows = [row.split() for row in page.texts(".figures tbody tr")]
    assert [row[0] for row in rows] == ["A", "B"]
    assert float(rows[0][1]) < float(rows[1][1])
    assert rows[0][5] == "4"
    assert "A begins" in page.text(".verdict")
    widths = page.check("barWidths()")
    assert widths[0] < widths[1]
    assert abs(widths[1] - 100) < 0.1
    page.ask("More")
    assert [m["content"] for m in fake.requests[2]["messages"]] == ["Compare", "short" * 3, "More"]
    assert [m["content"] for m in fake.requests[3]["messages"]] == ["Compare", "slow" * 3, "More"]


def test_two_settings_of_one_model(page: Page, fake: FakeServer) -> None:
    page.click("#new-compare")
    page.all(".side select")[1].send_keys("mistral")
    page.click(".side-B .icon-button")
    assert page.text("#settings-title") == "Settings of Side B"
    page.fill("#set-temperature", "0")
    page.fill("#set-system", "Be brief.")
    page.click("#close-settings")
    assert page.texts(".side-summary") == ["default settings", "temperature 0 · system prompt"]
    page.ask("Hello")
    first, second = fake.requests
    assert "temperature" not in first
    assert second["temperature"] == 0
    assert second["messages"][0] == {"role": "system", "content": "Be brief."}
    assert "Both answers are the same text." in page.text(".verdict")


def test_one_after_the_other_or_both_at_once(page: Page, fake: FakeServer) -> None:
    gates = [threading.Event(), threading.Event()]
    fake.answers.extend(Answer(gate=gate) for gate in gates)
    page.click("#new-compare")
    page.send("Hello")
    page.wait_text(".card .markdown", "Hello")
    assert len(fake.requests) == 1
    assert page.texts(".card.side-B .waiting")[0] == "Its turn comes after the other's."
    for gate in gates:
        gate.set()
    page.wait_idle()
    assert len(fake.requests) == 2
    both = threading.Event()
    fake.answers.extend([Answer(gate=both), Answer(gate=both)])
    page.all(".order input")[1].send_keys(Keys.SPACE)
    page.send("Again")
    page.wait(lambda: len(fake.requests) == 4)
    both.set()
    page.wait_idle()
    assert page.texts(".turn:last-child .card .markdown") == ["Hello there."] * 2


def test_run_again_stop_and_reload(page: Page, fake: FakeServer) -> None:
    page.click("#new-compare")
    page.ask("Hello")
    fake.answers.extend([Answer(pieces=["begun", "."], gate=threading.Event()), Answer()])
    page.click(".turn-foot button")
    page.wait_text(".card .markdown", "begun")
    page.find("#prompt").send_keys(Keys.ESCAPE)
    page.wait_idle()
    assert page.texts(".card .note") == ["Stopped.", "Stopped."]
    assert len(fake.requests) == 3
    page.driver.refresh()
    page.wait_ready()
    assert page.texts(".card .markdown") == ["begun", ""]
    assert page.find(".conversation").get_attribute("textContent") == "Hello (comparison)"


def test_one_side_fails_and_is_tried_again(page: Page, fake: FakeServer) -> None:
    page.click("#new-compare")
    fake.answers.extend([Answer(), Answer(status=503, message="Loading.")])
    page.ask("Hello")
    assert "not ready" in page.text(".card.side-B .error-title")
    assert page.count(".verdict") == 0
    page.click(".card.side-B .error-buttons button")
    page.wait_text(".card.side-B .markdown", "Hello there.")
    page.wait_idle()
    assert len(fake.requests) == 3
    assert fake.requests[2]["model"] == "llama-3.2-3b"
