"""What decoders raise for a broken photo, made a fault of that photo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tag2mask.core.errors import DataError, Tag2MaskError
from tag2mask.core.files import reason


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever is raised inside, while a photo is opened or a part of it decoded, names the photo.

    Raises:
        DataError: something was raised that is not ours already.
    """
    try:
        yield
    except Tag2MaskError:
        raise
    except MemoryError as error:
        raise DataError(f"{path} does not fit into memory: make it smaller, or store it as a tiled TIFF") from error
    except Exception as error:  # zlib, struct, tifffile, imagecodecs, Pillow: each codec has kinds of its own
        if isinstance(error, OSError) and error.errno is not None:  # of the system, not of a decoder
            raise DataError(f"{path} cannot be read: {reason(error)}") from error
        raise DataError(f"cannot read {path}: {reason(error)}. Copy it again, or store it as PNG") from error
