"""Names in figures: in a font that has their characters, or as escapes, and never as markup."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tag2mask.core.names import printable
from tag2mask.core.progress import LOG

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

_BASE = "DejaVu Sans"
_LARGE = ("cjk", "noto sans", "source han", "unicode", "yahei", "pingfang", "hiragino", "gothic", "wenquanyi", "droid")
"""In names of fonts that have many scripts: these are looked into first."""
_UNFIT = ("lastresort", "last resort", "emoji", "symbol")
"""In names of fonts whose glyphs do not show the character, or are pictures."""
_NAMED = 8


@contextmanager
def legible(figure: Figure, out: Path, *, as_text: bool) -> Iterator[None]:
    r"""Make every text of a figure legible while it is saved.

    Dollar signs in names are not a formula. Fonts of this machine are added for characters that matplotlib's own lacks;
    what no font has is written as ``\u732b`` where the figure is a picture, and a warning says so. With ``as_text``
    the file keeps texts as text, whose fonts the reader has.
    """
    import matplotlib

    texts = _texts(figure)
    characters = sorted({c for text in texts for c in printable(text.get_text())} - {"\n"})
    families, absent = _families("".join(characters))
    for text in texts:
        text.set_parse_math(False)
        shown = printable(text.get_text())
        if not as_text:
            shown = "".join(f"\\u{ord(c):04x}" if c in absent else c for c in shown)
        if shown != text.get_text():
            text.set_text(shown)
    if absent and not as_text:
        LOG.warning(
            "%s: no font of this machine has %s; written as escapes. Install one, such as Noto Sans CJK, and rerun the "
            "command", out.name, " ".join(sorted(absent)[:_NAMED]) + (" …" if len(absent) > _NAMED else ""),
        )  # fmt: skip
    fonts = [*matplotlib.rcParams["font.sans-serif"], *(f for f in families if f != _BASE)]
    with warnings.catch_warnings(), matplotlib.rc_context({"font.sans-serif": fonts, "text.parse_math": False}):
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # of texts that are kept as text
        yield


def _texts(figure: Figure) -> list[Text]:
    """Every text of a figure; labels of ticks are fixed, so that they can be changed."""
    from matplotlib.axis import Axis
    from matplotlib.text import Text

    for axis in figure.findobj(Axis):
        labels = axis.get_ticklabels()
        if not all(text.get_text().isascii() for text in labels):
            places = axis.get_ticklocs()
            axis.set_ticks(places, [printable(text.get_text()) for text in labels])
    return [text for text in figure.findobj(Text) if text.get_text()]


@cache
def _families(characters: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """Fonts that have these characters, best first, and the characters that none has."""
    from matplotlib.font_manager import findfont, fontManager

    absent = set(characters) - _characters(findfont(_BASE))
    found: list[str] = []
    upright = [font for font in fontManager.ttflist if font.style == "normal" and font.weight in range(300, 501)]
    regular = {font.name: font.fname for font in upright}
    fit = [name for name in regular if not any(part in name.lower() for part in _UNFIT)]
    for name in sorted(fit, key=lambda name: (not any(part in name.lower() for part in _LARGE), name)):
        here = absent & _characters(regular[name]) if absent else set()
        if here:
            found.append(name)
            absent -= here
    return tuple(found), frozenset(absent)


@cache
def _characters(font: str) -> frozenset[str]:
    """What a font file has; nothing where it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(font).get_charmap()))
    except (OSError, RuntimeError):  # a broken font of the machine
        return frozenset()
