"""Reading a written page back: its elements, its colours, and whether it needs anything outside itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "img", "br", "link", "input"}


@dataclass
class Element:
    """One element with its attributes, the elements it lies in, and the text inside it."""

    tag: str
    attributes: dict[str, str | None]
    parents: list[Element] = field(default_factory=list, repr=False)
    text: str = ""

    def inside(self, tag: str, **attributes: str) -> bool:
        """Whether it lies in an element of that tag and those attributes."""
        return any(p.tag == tag and attributes.items() <= p.attributes.items() for p in self.parents)


@dataclass
class Page(HTMLParser):
    """All elements of a page, in order; fails on a tag that is not closed where it should be."""

    source: str = field(repr=False)
    elements: list[Element] = field(default_factory=list, repr=False)
    open: list[Element] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.source)
        self.close()
        assert not self.open, f"never closed: {[e.tag for e in self.open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}> has an attribute twice"
        element = Element(tag, dict(attrs), list(self.open))
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs), list(self.open)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        closed = self.open.pop()
        assert closed.tag == tag, f"</{tag}> closes <{closed.tag}>"

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Every element of that tag and those attributes; ``data_what`` is ``data-what``, ``class_`` is ``class``."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [e for e in self.elements if e.tag == tag and wanted.items() <= e.attributes.items()]

    def text(self, tag: str, **attributes: str) -> list[str]:
        """The text of every such element, white space folded."""
        return [" ".join(e.text.split()) for e in self.all(tag, **attributes)]

    def within(self, parent: Element, tag: str) -> list[Element]:
        """Every element of that tag inside another one."""
        return [e for e in self.all(tag) if any(p is parent for p in e.parents)]


def check_alone_and_accessible(page: Page) -> None:
    """No other file; a language, a title, headings in steps, words for each picture and control, ids once."""
    _check_alone(page)
    assert page.all("html")[0].attributes["lang"] == "en"
    assert page.text("title")[0]
    levels = [int(e.tag[1]) for e in page.elements if re.fullmatch(r"h[1-6]", e.tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels
    ids = Counter(e.attributes["id"] for e in page.elements if "id" in e.attributes)
    assert set(ids.values()) <= {1}, ids.most_common(3)
    for image in page.all("img"):
        assert image.attributes.get("alt") or (image.attributes["alt"] == "" and _described(image))
    for element in page.elements:
        if element.attributes.get("role") in {"img", "region", "group"}:
            named = element.attributes.get("aria-label") or element.attributes.get("aria-labelledby")
            assert named, element.attributes
        for reference in ("aria-labelledby", "for"):
            for target in (element.attributes.get(reference) or "").split():
                assert target in ids, f"{reference} of <{element.tag}> names no element: {target}"
    _check_controls(page)
    for cell in page.all("th"):
        assert cell.attributes.get("scope") in {"row", "col"}


def _described(image: Element) -> bool:
    """Whether a picture is part of one that has words."""
    return any(p.attributes.get("role") == "img" and p.attributes.get("aria-label") for p in image.parents)


def _check_alone(page: Page) -> None:
    for element in page.elements:
        assert element.tag not in {"link", "iframe", "object", "base"}, element.tag
        for name in ("src", "href", "action", "srcset"):
            value = element.attributes.get(name)
            assert value is None or value.startswith(("data:image/jpeg;base64,", "data:image/png;base64,", "#")), value
        assert not any(name.startswith("on") for name in element.attributes), element.attributes
    assert not re.search(r"url\((?!data:image/)|@import|https?://|animation|transition:", page.source)


def _check_controls(page: Page) -> None:
    """Every control has a label, is one of HTML's own, and is not taken out of the order of the keyboard."""
    labelled = {e.attributes.get("for") for e in page.all("label")}
    for control in (e for e in page.elements if e.tag in {"input", "select", "button"}):
        words = control.text if control.tag == "button" else ""
        assert words or control.attributes.get("id") in labelled or control.inside("label"), control.attributes
    assert all(e.attributes.get("tabindex") in {None, "0"} for e in page.elements)


def schemes(page: Page) -> dict[str, dict[str, str]]:
    """The colours of the light, dark and printed page by the name of the CSS variable."""
    style = page.all("style")[0].text
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    found = [dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", block)) for block in blocks]
    return dict(zip(("light", "dark", "print"), found, strict=True))


def colour_pairs(page: Page) -> Iterator[tuple[str, str]]:
    """Text and ground, as names of colours, of every rule of the style sheet that sets one of them.

    Text without a ground of its own may stand on the page and on a panel; a ground without a colour for its text bears
    the page's.
    """
    style = re.sub(r":root \{.*?\}", "", page.all("style")[0].text, flags=re.DOTALL)
    for rule in re.findall(r"\{([^{}]*)\}", style):
        ink = re.search(r"(?:^|[;\s])(?:color|fill): var\(--([a-z0-9-]+)\)", rule)
        ground = re.search(r"background(?:-color)?: var\(--([a-z0-9-]+)\)", rule)
        if ink and not ground:
            yield from ((ink[1], plain) for plain in ("page", "panel"))
        elif ground:
            yield ink[1] if ink else "text", ground[1]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two ``#rrggbb`` colours, 1..21 (WCAG 2.2)."""
    bright, dim = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
