"""The dashboard in a real headless Chromium, on real traffic through Envoy."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from demo.stack import Stack
from tests.envoy.conftest import BROWSER
from tests.sidecar.supervised import RULE, Supervised

pytestmark = pytest.mark.xdist_group("dashboard")

SHOTS = os.environ.get("DASHBOARD_SHOTS", "")
"""A folder for pictures, if you want to look at them."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack("buffered", settings={"rules": ["@recommended", "@baseline"]}) as running:
        for number in range(6):
            httpx.get(f"{running.url}/hello?name={number}", headers=BROWSER)
        httpx.get(f"{running.url}/hello?q=%3Cscript%3Ealert(1)%3C/script%3E", headers=BROWSER)
        httpx.get(f"{running.url}/hello?q=1'%20union%20select%20password%20from%20users--%20", headers=BROWSER)
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if binary is None:
        pytest.skip("no Chromium: install the package `chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(chromium: Browser, stack: Stack, **options: Any) -> tuple[Page, list[str]]:
    """The dashboard, and everything that went wrong in it or left this machine."""
    wrong: list[str] = []
    page = chromium.new_context(**options).new_page()
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if "127.0.0.1" in request.url or request.url.startswith("data:") else wrong.append(request.url)
        ),
    )
    page.goto(f"http://127.0.0.1:{stack.admin_port}/")
    expect(page.locator("#state")).to_have_text("live")
    return page, wrong


def shoot(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


def test_counts_events_and_no_errors(chromium: Browser, stack: Stack) -> None:
    page, wrong = open_page(chromium, stack)
    expect(page.locator("#n-requests")).to_have_text("8")
    expect(page.locator("#n-blocked")).to_have_text("2")
    expect(page.locator("#events li")).to_have_count(2)
    expect(page.locator("#what")).to_contain_text("generation 1")
    expect(page.locator("#paths")).to_contain_text("/hello")
    shoot(page, "wide-light")
    assert wrong == []


def test_a_new_event_comes_by_itself_and_is_text(chromium: Browser, stack: Stack) -> None:
    page, wrong = open_page(chromium, stack)
    before = page.locator("#events li").count()
    httpx.get(f"{stack.url}/%3Cimg%20src=x%20onerror=alert(1)%3E?q=%3Cscript%3Ealert(2)%3C/script%3E", headers=BROWSER)
    expect(page.locator("#events li")).to_have_count(before + 1)
    assert page.locator("#events img").count() == 0
    assert wrong == []


def test_an_event_explains_itself_and_proposes_an_exclusion_by_keyboard(chromium: Browser, stack: Stack) -> None:
    page, wrong = open_page(chromium, stack)
    page.locator("#events button").last.focus()
    page.keyboard.press("Enter")
    why = page.locator("#why")
    expect(why).to_be_visible()
    expect(why).to_contain_text("ARGS:q")
    expect(why.locator("pre")).to_contain_text("ctl:ruleRemoveTargetById=")
    shoot(page, "explained")
    page.keyboard.press("Escape")
    expect(why).to_be_hidden()
    assert wrong == []


def test_the_list_can_be_narrowed_to_what_one_looks_for(chromium: Browser, stack: Stack) -> None:
    page, wrong = open_page(chromium, stack)
    rows = page.locator("#events li:visible")
    expect(page.locator("#events li").first).to_be_visible()
    everything = rows.count()
    page.get_by_label("Only those with").fill("UNION  select")
    expect(rows).to_have_count(1)
    httpx.get(f"{stack.url}/hello?q=2'%20union%20select%20password%20from%20users--%20", headers=BROWSER)
    httpx.get(f"{stack.url}/hello?q=%3Cscript%3Ealert(3)%3C/script%3E", headers=BROWSER)
    expect(rows).to_have_count(2)
    page.get_by_label("Only those with").fill("")
    expect(rows).to_have_count(everything + 2)
    assert wrong == []


def test_it_says_which_worker_does_not_serve(chromium: Browser, tmp_path: Path) -> None:
    with Supervised(tmp_path) as running:
        page = chromium.new_page()
        page.goto(f"http://127.0.0.1:{running.port}/")
        expect(page.locator("#state")).to_have_text("live")
        running.prevent_starts()
        os.kill(running.pids()[1], signal.SIGKILL)
        expect(page.locator("#state")).to_have_text("worker 1 of 2 not ready", timeout=15_000)
        page.get_by_role("button", name="Reload rules").click()
        expect(page.locator("#state")).to_contain_text("own.conf:1")
        running.rules.write_text(RULE)
        expect(page.locator("#state")).to_have_text("live", timeout=30_000)


def test_phone_width_and_dark(chromium: Browser, stack: Stack) -> None:
    page, wrong = open_page(chromium, stack, viewport={"width": 375, "height": 700}, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    shoot(page, "phone-dark")
    assert wrong == []


def test_reload_by_the_button(chromium: Browser, stack: Stack) -> None:
    page, wrong = open_page(chromium, stack)
    page.get_by_role("button", name="Reload rules").click()
    expect(page.locator("#what")).to_contain_text("generation 2", timeout=15_000)
    assert wrong == []
