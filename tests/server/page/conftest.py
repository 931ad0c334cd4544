"""One browser for all tests of the page, and a server that says what a test wants."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fake_openai import FakeServer
from page_browser import MISSING, Page, find_chromium, start_chromium
from selenium.webdriver import Chrome


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    programs = find_chromium()
    if programs is None:
        pytest.skip(MISSING)
    driver = start_chromium(programs, tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def fake_server() -> Iterator[FakeServer]:
    server = FakeServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def fake(fake_server: FakeServer) -> FakeServer:
    fake_server.reset()
    return fake_server


@pytest.fixture
def blank(chromium: Chrome, fake: FakeServer) -> Iterator[Page]:
    """The page before it was opened. At the end the browser must have had nothing to complain about but refusals."""
    page = Page(chromium, fake.url)
    yield page
    complaints = [line for line in page.log() if "Failed to load resource" not in line]
    assert complaints == []


@pytest.fixture
def page(blank: Page) -> Page:
    """The page, opened by a new reader."""
    return blank.open()
