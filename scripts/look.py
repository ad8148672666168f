"""Takes pictures of the documentation site in a browser, for people to look at: `make look`.

    python scripts/look.py                          one page of each kind
    python scripts/look.py options.html faq.html    these
    python scripts/look.py --all

Each page is taken on a phone and on a desk, light and dark, as its own switch sets it. One that is
wider than its window, or lacks a picture, fails. The browser is any Chromium on PATH.
"""

import argparse
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parents[1]
SITE = ROOT / ".site"
KINDS = (
    *("index.html", "tutorial-langchain.html", "tutorial-llama-index.html", "options.html"),
    *("limits.html", "failures.html", "faults.html", "architecture.html", "soak.html"),
    *("api/qwen_rerank.html", "api/langchain_qwen_rerank.html", "benchmarks/index.html"),
    *("notebooks/images_and_videos.html", "notebooks/inside_one_call.html"),
    *("examples/index.html", "examples/langchain_agent.html"),
)
WIDTHS = {"phone": 390, "desk": 1280}
SCHEMES = {"light": "default", "dark": "slate"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
TALLEST = 6000  # pixels; what comes further down looks like what comes before

_FLAGS = ["--disable-gpu", "--disable-quic", "--disable-background-networking"]
_LACKING = """() => [...document.images].filter(each => !each.naturalWidth).map(each => each.src)"""
_SCHEME = "() => document.body.dataset.mdColorScheme"
_TOO_WIDE = """() => {
    const room = document.documentElement.clientWidth;
    return document.documentElement.scrollWidth > room ? document.documentElement.scrollWidth : 0;
}"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  its name there
        """Nobody asks for what was asked."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The URL under which *folder* can be read meanwhile."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def taken(browser: Browser, url: str, page: str, into: Path) -> Iterator[str]:
    """Takes the pictures of *page*, and says what is wrong with it."""
    for where, width in WIDTHS.items():
        for light, scheme in SCHEMES.items():
            context = browser.new_context(
                viewport={"width": width, "height": 844 if where == "phone" else 800},
                device_scale_factor=1,
                color_scheme="light",  # whatever the system has, the switch of the site decides
            )
            tab = context.new_page()
            tab.goto(f"{url}/{page}")
            if scheme != SCHEMES["light"]:
                _switch(tab, scheme)
            name = f"{page.removesuffix('.html').replace('/', '-')}-{where}-{light}.png"
            if too_wide := tab.evaluate(_TOO_WIDE):
                yield f"{page} is {too_wide} pixels wide on a {where} of {width}"
            yield from (f"{page} lacks {source}" for source in tab.evaluate(_LACKING))
            tall = min(tab.evaluate("() => document.documentElement.scrollHeight"), TALLEST)
            clip = {"x": 0, "y": 0, "width": width, "height": tall}
            tab.screenshot(path=into / name, full_page=True, clip=clip)
            context.close()


def _switch(tab: Any, scheme: str) -> None:
    """Clicks the switch that readers have until the page is in *scheme*."""
    for _ in range(3):
        tab.locator("label.md-header__button[for^=__palette]:visible").click()
        if tab.evaluate(_SCHEME) == scheme:
            return
    raise LookupError(f"the switch does not lead to {scheme}")


def main() -> int:
    """Does what the command line asks for, and returns the exit code."""
    parser = argparse.ArgumentParser(description="Take pictures of the documentation site.")
    parser.add_argument("pages", nargs="*", help="paths below .site; default: one of each kind")
    parser.add_argument("--all", action="store_true", help="every page")
    parser.add_argument("--into", type=Path, default=ROOT / ".looks", help="default: .looks")
    asked = parser.parse_args()
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None or not SITE.is_dir():
        print("It takes a Chromium on PATH, and the site: make docs", file=sys.stderr)
        return 2
    pages = asked.pages or KINDS
    if asked.all:
        pages = sorted(str(path.relative_to(SITE)) for path in SITE.rglob("*.html"))
    asked.into.mkdir(parents=True, exist_ok=True)
    wrong = []
    with served(SITE) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found, args=_FLAGS, chromium_sandbox=False
        )
        for page in pages:
            wrong += taken(browser, url, page, asked.into)
            print(page, flush=True)
        browser.close()
    print(*wrong, f"Pictures are in {asked.into}", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
