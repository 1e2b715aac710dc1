import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cf_lightning.report.run_page import write_run_report
from sample_run import sample_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")


class Browser:
    """Headless Chromium over the DevTools protocol on a pipe: JSON with a zero byte after each message."""

    def __init__(self, profile: Path) -> None:
        commands, self.write = os.pipe()
        self.read, answers = os.pipe()

        def to_three_and_four() -> None:
            copies = [os.dup(one) for one in (commands, answers)]  # one of them may be 3 or 4 itself
            for copy, fixed in zip(copies, (3, 4), strict=True):
                os.dup2(copy, fixed)

        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        line = [str(CHROMIUM), *flags, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            line, preexec_fn=to_three_and_four, pass_fds=(3, 4), stderr=subprocess.DEVNULL
        )
        os.close(commands)
        os.close(answers)
        self.count, self.buffer = 0, b""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.page(f"{domain}.enable")

    def call(self, method: str, session: str | None = None, **settings: Any) -> Any:
        self.count += 1
        message = {"id": self.count, "method": method, "params": settings}
        message |= {"sessionId": session} if session else {}
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while (answer := self.next()).get("id") != self.count:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def page(self, method: str, **settings: Any) -> Any:
        return self.call(method, self.session, **settings)

    def next(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            more = os.read(self.read, 2**20)
            assert more, "chromium ended"
            self.buffer += more
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)  # type: ignore[no-any-return]

    def open(self, file: Path, width: int = 1280) -> None:
        self.page(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        self.page("Page.navigate", url=file.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.next())

    def ask(self, code: str) -> Any:
        answer = self.page("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        settings = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.page("Input.dispatchKeyEvent", type="keyDown", **settings, **({"text": text} if text else {}))
        self.page("Input.dispatchKeyEvent", type="keyUp", **settings)

    def parameters(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event.get("method") == method]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)
        os.close(self.read)
        os.close(self.write)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    started = Browser(tmp_path / "profile")
    yield started
    started.close()


CARDS = "[...document.querySelectorAll('.card h4')].map(one => +one.textContent.split(' ')[1])"
LOADED = """Promise.all([...document.images].map(one => one.decode()))
    .then(() => [...document.images].map(one => one.naturalWidth))"""


def choose(name: str, value: str, event: str) -> str:
    return (
        f"form = document.querySelector('.gallery form'); form.elements.{name}.value = '{value}';"
        f"form.elements.{name}.dispatchEvent(new Event('{event}')); {CARDS}"
    )


def test_the_gallery_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    browser.open(write_run_report(sample_run(tmp_path, ks=[60], pictured=50)))
    assert browser.ask(CARDS) == [*range(59, 35, -1)], "the largest first, 24 a page"
    assert browser.ask(LOADED) == [3 * 16] * 2 * 24

    # the next page, with the keyboard
    browser.ask("document.querySelector('[name=next]').focus()")
    browser.press("Enter", 13, "\r")
    assert browser.ask(CARDS) == [*range(35, 11, -1)]
    assert browser.ask("document.activeElement.name") == "next", "the focus stays"
    assert browser.ask("document.querySelector('.pager span').textContent") == "page 2 of 3"

    # small clusters are tight here, and the one that is empty has no radius: it stays last
    rising = "document.querySelector('[name=order]').click()"
    assert browser.ask(choose("sort", "radius", "change"))[:3] == [1, 2, 3]
    assert browser.ask(f"{rising}; {CARDS}")[:3] == [59, 58, 57]
    assert browser.ask(choose("sort", "cluster", "change"))[:3] == [0, 1, 2]
    assert browser.ask(choose("sort", "share", "change"))[:3] == [1, 2, 3]

    # a filter by a name or a number
    assert sorted(browser.ask(choose("filter", "TAG4", "input"))) == [4, *range(40, 50)]
    assert browser.ask("document.querySelector('[role=status]').textContent") == "11 of 60 clusters"
    assert browser.ask(choose("filter", "57", "input")) == [57]
    browser.ask("document.querySelector('.names button').click()")
    assert browser.ask("document.querySelector('[name=filter]').value") == "everywhere"
    assert browser.ask("document.querySelector('[role=status]').textContent") == "59 of 60 clusters"

    # clusters without pictures are there in words, or not at all
    shown = browser.ask(choose("filter", "", "input"))
    assert set(shown) >= {1, 2, 3}
    assert browser.ask("document.querySelectorAll('.card:first-child img').length") == 0
    browser.ask("document.querySelector('[name=pictured]').click()")
    assert browser.ask("document.querySelector('[role=status]').textContent") == "50 of 60 clusters"
    assert browser.ask("document.querySelectorAll('.card img').length") == 2 * 24


def test_tables_sort_and_nothing_goes_wrong(browser: Browser, tmp_path: Path) -> None:
    page = write_run_report(sample_run(tmp_path))
    browser.open(page)
    first = "document.querySelector('#stages ~ .scroll')"
    names = f"[...{first}.querySelectorAll('tbody th')].map(one => one.textContent)"
    before = browser.ask(names)
    browser.ask(f"{first}.querySelector('th button').focus()")
    browser.press("Enter", 13, "\r")
    assert browser.ask(names) == sorted(before) != before
    assert browser.ask(f"{first}.querySelector('th').getAttribute('aria-sort')") == "ascending"
    browser.press("Enter", 13, "\r")
    assert browser.ask(names) == sorted(before, reverse=True)

    assert browser.parameters("Runtime.exceptionThrown") == []
    assert browser.parameters("Log.entryAdded") == []
    assert browser.parameters("Runtime.consoleAPICalled") == []
    urls = {one["request"]["url"] for one in browser.parameters("Network.requestWillBeSent")}
    assert {url for url in urls if not url.startswith("data:")} == {page.as_uri()}


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_no_wider_than_the_window(width: int, browser: Browser, tmp_path: Path) -> None:
    browser.open(write_run_report(sample_run(tmp_path, ks=[30])), width)
    assert browser.ask("document.documentElement.scrollWidth") <= width


# of the words with the least contrast: WCAG 2.2, 1.4.3, on the nearest ground that is not clear
CONTRAST = """(() => {
  const light = colour => {
    const [r, g, b] = colour.match(/[0-9.]+/g).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = one => {
    const found = getComputedStyle(one).backgroundColor;
    return found.endsWith(', 0)') && one.parentElement ? ground(one.parentElement) : found;
  };
  const speaks = one => one.offsetParent && !one.closest('svg, button:disabled')
    && [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  const words = [...document.querySelectorAll('main *, footer, nav a')].filter(speaks);
  return Math.min(...words.map(one => {
    const both = [light(getComputedStyle(one).color), light(ground(one))];
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
  }));
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_the_ground(scheme: str, browser: Browser, tmp_path: Path) -> None:
    browser.page("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(write_run_report(sample_run(tmp_path, status="failed", error="an error")))
    assert browser.ask(CONTRAST) >= 4.5
