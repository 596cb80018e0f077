"""``python -m tag2mask``: the same as the command ``tag2mask``."""

from __future__ import annotations

from tag2mask.cli.app import main

if __name__ == "__main__":
    main()
