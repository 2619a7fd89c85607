"""The status page in a browser, as a test looks at it: what it says, and audits of what it looks like."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.remote.webelement import WebElement

PATIENCE_S = 20.0

# Every visible text with its colour, the ground it stands on, and its size (WCAG 2.2, 1.4.3: large text needs less).
_TEXTS = """
const ground = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (!/, 0\\)$/.test(colour) && colour !== "transparent") return colour;
  }
  return getComputedStyle(document.documentElement).backgroundColor;
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || !node.checkVisibility()) continue;
  if (node.closest(".unseen, noscript, option")) continue;
  const style = getComputedStyle(node);
  found.push([walker.currentNode.textContent.trim().slice(0, 40), style.color, ground(node),
              parseFloat(style.fontSize), Number(style.fontWeight)]);
}
return found;
"""

# What reaches beyond the right edge of the screen, and what is too low to be hit by a finger (WCAG 2.2, 2.5.8).
_BEYOND = """
return [...document.querySelectorAll("body *")]
  .filter((node) => node.checkVisibility() && !node.closest(".unseen"))
  .filter((node) => node.getBoundingClientRect().right > innerWidth + 1)
  .map((node) => node.outerHTML.slice(0, 80));
"""
_LOW = """
return [...document.querySelectorAll("button, select, input, summary")]
  .filter((node) => node.checkVisibility() && node.getBoundingClientRect().height < 24)
  .map((node) => node.outerHTML.slice(0, 80));
"""
_LEVELS = """
return [...document.querySelectorAll("h1, h2, h3, h4")]
  .filter((node) => node.checkVisibility())
  .map((node) => Number(node.tagName[1]));
"""

_FOCUS = """
const node = document.activeElement;
const style = getComputedStyle(node);
return [node.outerHTML.slice(0, 120), style.outlineStyle, parseFloat(style.outlineWidth), style.outlineColor];
"""


class Page:
    """One page in one browser."""

    def __init__(self, browser: Chrome, base: str) -> None:
        self.browser = browser
        self.base = base

    def open(self, token: str = "secret") -> None:
        """Load the page anew, by a link with this token ("": without one), as in a new tab."""
        self.browser.get(f"{self.base}/healthz")
        self.browser.execute_script("sessionStorage.clear()")
        self.browser.get_log("browser")
        self.browser.get(f"{self.base}/#token={token}" if token else f"{self.base}/")

    def one(self, selector: str) -> WebElement:
        return self.browser.find_element("css selector", selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements("css selector", selector)

    def says(self, selector: str) -> str:
        """Return the visible text of the first match."""
        return self.one(selector).text

    def script(self, body: str, *arguments: Any) -> Any:
        return self.browser.execute_script(body, *arguments)

    @property
    def word(self) -> str:
        return self.says("#state")

    @property
    def level(self) -> str:
        return str(self.one("body").get_attribute("data-level"))

    def until(self, true: Callable[[], Any], what: str = "") -> Any:
        """Wait until a condition holds; return what it returned."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                found = true()
            except (NoSuchElementException, StaleElementReferenceException):  # not yet, or just replaced
                found = None
            if found:
                return found
            assert time.monotonic() < deadline, (
                f"waited in vain{what and ' for '}{what}; the page says:\n{self.says('body')[:2000]}"
            )
            time.sleep(0.05)

    def until_word(self, word: str, *, hurry: bool = True) -> None:
        """Wait for a state. hurry: have the page ask now (at most once a second), not when it would by itself."""

        def told() -> bool:
            if hurry:
                self.hurry()
            return self.word == word

        self.until(told, f'the word "{word}"')

    def hurry(self) -> None:
        """Make the page think that the network has come back."""
        self.script("dispatchEvent(new Event('online'))")

    def press(self, *keys: str) -> None:
        ActionChains(self.browser).send_keys(*keys).perform()

    def tab(self) -> tuple[str, str, float, str]:
        """Press Tab; return the focused element's start, and its outline's style, width and colour."""
        self.press(Keys.TAB)
        found = self.script(_FOCUS)
        return found[0], found[1], found[2], found[3]

    def complaints(self) -> list[str]:
        """What the browser's console has of errors and of refusals by the content security policy."""
        return [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]

    def beyond_the_edge(self) -> list[str]:
        return list(self.script(_BEYOND))

    def too_low(self) -> list[str]:
        return list(self.script(_LOW))

    def heading_levels(self) -> list[int]:
        return list(self.script(_LEVELS))

    def open_all_details(self) -> None:
        self.script("for (const each of document.querySelectorAll('details')) each.open = true")

    def poor_contrasts(self, *, texts_at_least: int = 40) -> list[tuple[str, float]]:
        """Return the texts whose contrast is below WCAG AA. texts_at_least: so many are looked at."""
        texts = self.script(_TEXTS)
        assert len(texts) >= texts_at_least
        measured = [
            (text, contrast(colour, ground), _needed(size, weight)) for text, colour, ground, size, weight in texts
        ]
        return [(text, round(found, 2)) for text, found, needed in measured if found < needed]


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two CSS colours "rgb(r, g, b)" (WCAG 2.2, contrast ratio)."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = colour.partition("(")[2].rstrip(")").split(",")
    assert len(parts) == 3, f"{colour} is not opaque"
    linear = [(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for c in (float(p) / 255 for p in parts)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _needed(size_px: float, weight: float) -> float:
    """Large text (18 pt, or 14 pt bold) needs 3:1, all other 4.5:1."""
    large = size_px >= 24 or (size_px >= 18.66 and weight >= 700)
    return 3.0 if large else 4.5
