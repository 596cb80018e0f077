"""Reading a written page back: its elements, its colours, and whether it needs anything outside itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "img", "br", "link", "input"}


@dataclass
class Element:
    """One element with its attributes and the text inside it."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """All elements of a page, in order; fails on a tag that is not closed where it should be."""

    source: str
    elements: list[Element] = field(default_factory=list)
    open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.source)
        self.close()
        assert not self.open, f"never closed: {[e.tag for e in self.open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        closed = self.open.pop()
        assert closed.tag == tag, f"</{tag}> closes <{closed.tag}>"

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, tag: str) -> list[Element]:
        """Every element of that tag."""
        return [e for e in self.elements if e.tag == tag]

    def text(self, tag: str) -> list[str]:
        """The text of every element of that tag, white space folded."""
        return [" ".join(e.text.split()) for e in self.all(tag)]


def check_alone_and_accessible(page: Page) -> None:
    """No script, no other file; a language, a title, one h1, headings in steps, an alt text for each picture."""
    for element in page.elements:
        assert element.tag not in {"script", "link", "iframe", "object"}, element.tag
        for name in ("src", "href"):
            value = element.attributes.get(name)
            assert value is None or value.startswith(("data:image/jpeg;base64,", "#")), value
    assert not re.search(r"url\(|@import|https?://", page.source)
    assert page.all("html")[0].attributes["lang"] == "en"
    assert page.text("title")[0]
    levels = [int(e.tag[1]) for e in page.elements if re.fullmatch(r"h[1-6]", e.tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels
    for image in page.all("img"):
        assert image.attributes.get("alt")


def schemes(page: Page) -> dict[str, dict[str, str]]:
    """The colours of the light, dark and printed page by the name of the CSS variable."""
    style = page.all("style")[0].text
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    found = [dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", block)) for block in blocks]
    return dict(zip(("light", "dark", "print"), found, strict=True))


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two ``#rrggbb`` colours, 1..21 (WCAG 2.2)."""
    bright, dim = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
