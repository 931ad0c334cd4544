"""The page and the application itself, with a tiny model behind them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from page_browser import Page
from scripted import Script, ScriptedService, scripted_server
from selenium.webdriver import Chrome
from selenium.webdriver.common.keys import Keys
from serving import serving
from tiny_chat import save_chat_model

from ostro import LLM
from ostro.errors import EngineError
from ostro.server.app import create_app
from ostro.server.models import Models
from ostro.server.service import ModelService
from ostro.server.settings import ServerSettings

KEY = "the-key-of-the-page-tests"


@pytest.fixture(scope="module")
def live(chromium: Chrome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = save_chat_model(tmp_path_factory.mktemp("live") / "model")
    llm = LLM(folder, backend="cpu", num_threads=1, kv_cache_bytes=64 << 20)
    settings = ServerSettings(port=0, api_keys=[KEY], access_log="off")
    models = Models.of([ModelService(llm, "tiny-chat")], {"other": "tiny-chat"})
    with serving(create_app(models, settings), settings, models.close) as address:
        yield Page(chromium, f"{address.rstrip('/')}/")


@pytest.fixture
def page(live: Page) -> Page:
    live.look()
    live.driver.get(live.url + "page/icon.svg")
    live.js(f"localStorage.clear(); sessionStorage.setItem('ostro.key', '{KEY}')")
    live.enter()
    live.click("#open-settings")
    live.fill("#set-max_tokens", "24")
    live.fill("#set-temperature", "0")
    live.click("#close-settings")
    return live


def test_the_page_asks_for_the_key_of_the_server(live: Page) -> None:
    live.look()
    live.driver.get(live.url + "page/icon.svg")
    live.js("localStorage.clear(); sessionStorage.clear()")
    live.driver.get(live.url)
    live.find("dialog input[name=key]").send_keys("wrong\n")
    live.wait_text("#key-problem", "did not accept")
    live.find("dialog input[name=key]").send_keys(KEY + "\n")
    live.wait_text("#model option", "tiny-chat")


def test_a_conversation(page: Page) -> None:
    page.ask("Hello")
    page.ask("안녕하세요")
    first, _second = page.texts(".from-assistant .stats")
    assert "24 answer tokens" in first
    assert "limit of tokens" in page.text(".note")
    answer = page.texts(".from-assistant .markdown")[-1]
    page.click(".message:last-child [data-action=again]")
    page.wait_text(".pager", "2/2")
    page.wait_idle()
    assert page.texts(".from-assistant .markdown")[-1] == answer
    assert "from cache" in page.texts(".from-assistant .stats")[-1]


def test_every_setting_is_taken(page: Page) -> None:
    page.click("#open-settings")
    values = {"top_p": "0.9", "top_k": "20", "min_p": "0.05", "seed": "7", "repetition_penalty": "1.1"}
    for name, value in {**values, "frequency_penalty": "0.5", "presence_penalty": "-0.5", "temperature": "0.8"}.items():
        page.fill(f"#set-{name}", value)
    page.fill("#set-stop", "zzzz")
    page.fill("#set-system", "Be brief.")
    page.click("#settings fieldset:nth-of-type(2) .link-button")
    page.ask("Hello")
    assert page.count(".error-card") == 0
    assert page.texts(".from-assistant .stats") != [""]


def test_stop_and_what_does_not_fit(page: Page) -> None:
    page.click("#open-settings")
    page.fill("#set-max_tokens", "4000")
    page.send("Hello")
    page.wait(lambda: len(page.text(".from-assistant .markdown")) > 20)
    page.find("#prompt").send_keys(Keys.ESCAPE)
    page.wait_idle()
    assert page.text(".note") == "Stopped."
    page.fill("#set-max_tokens", "100000")
    page.ask("Hello")
    assert page.find(".error-card").get_attribute("data-kind") == "context"
    assert "max_tokens" in page.text(".error-card")


def test_a_comparison(page: Page) -> None:
    page.click("#new-compare")
    page.ask("Hello")
    rows = [row.split() for row in page.texts(".figures tbody tr")]
    assert [row[5] for row in rows] == ["24", "24"]


def test_why_an_answer_broke_off_is_read(chromium: Chrome) -> None:
    """A browser that sees a connection break before it has read the last event throws the event away."""
    failing = Script("Once upon a time there was", failure=EngineError("The engine broke."), after=4)
    with scripted_server(ScriptedService(failing)) as address:
        page = Page(chromium, f"{address.rstrip('/')}/").open()
        page.ask("Hello")
        page.wait_text(".error-card", "The engine broke.")
        assert "Once upon" in page.text(".from-assistant .markdown")
    page.log()
