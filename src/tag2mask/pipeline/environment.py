"""What a number may depend on beside the recipe: versions, the state of the code, the machine."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

_LIBRARIES = (
    "tag2mask", "torch", "torchvision", "timm", "segmentation-models-pytorch", "lightning", "numpy", "Pillow",
    "pycocotools",
)  # fmt: skip
_PACKAGE = Path(__file__).resolve().parents[1]
_SECONDS = 10


def environment() -> dict[str, str]:
    """Python, platform, processor, versions of libraries, and the commit where the code comes out of a git checkout."""
    found = {"python": sys.version.split()[0], "platform": platform.platform(), "processor": _processor()}
    for library in _LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    commit = git_state(_PACKAGE)
    return {**found, "commit": commit} if commit else found


def git_state(folder: Path) -> str:
    """Commit of a folder of code, and whether the folder was changed since: ``3f2a… with changes``.

    Empty where git does not know the folder's ``__init__.py``: an installed package may lie inside of a repository
    that is not its own.
    """
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return ""
    commit, changes = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain", "--", ".")
    if commit is None or changes is None:
        return ""
    return f"{commit} with changes" if changes else commit


def _git(folder: Path, *words: str) -> str | None:
    """What git prints, None where it fails, is absent or takes too long."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *words], cwd=folder, capture_output=True, text=True, timeout=_SECONDS,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
