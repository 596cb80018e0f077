"""Commands that a message, a page or a table advises: quoted, so that a shell reads back the very words."""

from __future__ import annotations

import shlex


def command(*words: object) -> str:
    """A command of tag2mask as one types it: ``tag2mask run 'my recipe.yaml' --out 'runs/my photos'``.

    Args:
        *words: verb, arguments and options, each one word of the shell whatever it holds.
    """
    return quoted("tag2mask", *words)


def quoted(*words: object) -> str:
    """Words as one types them into a shell: those with blanks, brackets, quotes and the like in quotes."""
    return shlex.join(map(str, words))
