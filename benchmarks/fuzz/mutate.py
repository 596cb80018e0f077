"""Broken versions of good files: bytes flipped, cut and inserted, and values replaced by odd ones."""

from __future__ import annotations

import copy
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any
from xml.etree import ElementTree

import numpy as np
import yaml

Mutator = Callable[[bytes, random.Random], bytes]
_PLACEHOLDER = "@@odd value@@"
_DIGITS, _LONG, _DEEP = 5_000, 5_000, 20_000
_ENDS = (0, 1, 2**16 - 1, 2**31 - 1, 2**32 - 1, 10**9)
_JSON = (
    "null", "[]", "[[]]", "{}", "true", "NaN", "Infinity", "-Infinity", "1e308", "1e999", "-1", "0", "0.5", '""', '"0"',
    "9" * _DIGITS, f'"{"x" * _LONG}"', "[" * _DEEP + "]" * _DEEP, '"\\ud800"', '"\\u0000"', '"a\\nb"', '["a", "a"]',
    "[null, 1]", '{"a": null}', "-100000000", "1000000000",
)  # fmt: skip
_YAML = (
    "null", "[]", "[[]]", "{}", "true", ".nan", ".inf", "-.inf", "1.0e+308", "-1", "0", "0.5", "''", "'0'",
    "9" * _DIGITS, "x" * _LONG, "[" * 2_000 + "]" * 2_000, '"\\ud800"', '"\\0"', '"a\\nb"', "[a, a]", "[null, 1]",
    "{a: null}", "2020-01-01", "2020-13-45", "0x_", "0b", "0o9", "1_000", "!!float q", "!!int q", "!!timestamp q",
    "!!binary '*'", "!!set {a}", "!!python/object/apply:os.getcwd []", "&a [*a]", "*b", "{<<: 1}", "{? [a] : 1}",
    "{1: 2}", "{null: 1}", "{2020-01-01: 1}", "~", "=", "190:20:30",
)  # fmt: skip
_XML = ("", "x" * _LONG, "-1", "NaN", "\x00", "&undefined;", "<a>" * 5_000, "<name/>", "]]>", "<!-- ", "\ud800")
_HEADS = (
    b'<?xml version="1.0" encoding="utf-16"?>', b'<?xml version="1.0" encoding="none-such"?>', b"<?xml version='9'?>",
    b'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>', b"\xff\xfe", b"\xef\xbb\xbf", b"\x00",
)  # fmt: skip


def flipped(data: bytes, rng: random.Random) -> bytes:
    """Up to eight bytes changed, cut off at a random place, or up to 64 bytes inserted (random ones, or a repeat)."""
    changed = bytearray(data)
    match rng.choice(("flip", "flip", "cut", "insert", "insert", "number")):
        case "flip" if changed:
            for _ in range(rng.randint(1, 8)):
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        case "cut" if changed:
            del changed[rng.randrange(len(changed)) :]
        case "number" if len(changed) > struct.calcsize("<I"):
            place = rng.randrange(len(changed) - 3)
            if rng.random() < 0.5:  # headers stand at the start, or, in zip archives, at the end
                place = min(place, rng.randrange(64) if rng.random() < 0.5 else len(changed) - 4)
            changed[place : place + 4] = struct.pack(rng.choice(("<I", ">I")), rng.choice(_ENDS))
        case _:
            place = rng.randint(0, len(changed))
            start = rng.randint(0, len(changed))
            repeat = bytes(changed[start : start + rng.randint(1, 64)])
            changed[place:place] = rng.choice((rng.randbytes(rng.randint(1, 64)), repeat))
    return bytes(changed)


def mixed(*mutators: Mutator) -> Mutator:
    """One of several, by chance."""
    return lambda data, rng: rng.choice(mutators)(data, rng)


def json_value(data: bytes, rng: random.Random) -> bytes:
    """One value of a JSON text, however deep, replaced by an odd one; or a key taken out or doubled."""
    return json.dumps(_with_placeholder(_parsed(data), rng)).replace(f'"{_PLACEHOLDER}"', rng.choice(_JSON)).encode()


def yaml_value(data: bytes, rng: random.Random) -> bytes:
    """One value or key of a YAML text replaced by an odd one."""
    text = json.dumps(_with_placeholder(_parsed(data), rng), indent=1)  # JSON is YAML, and written far faster
    return text.replace(f'"{_PLACEHOLDER}"', rng.choice(_YAML)).encode()


def override(data: bytes, rng: random.Random) -> bytes:
    """An override ``key=value`` with an odd value, or an odd key."""
    key, _, value = data.decode().partition("=")
    match rng.choice(("value", "value", "value", "key", "part")):
        case "value":
            value = rng.choice(_YAML)
        case "key":
            key = rng.choice(
                (f"{key}.x", f".{key}", key.replace(".", "..", 1), key[: len(key) // 2], "", "stages", "data")
            )
            value = rng.choice((value, *_YAML))
        case _:
            key, value = ".".join(key.split(".")[: rng.randint(1, 3)]), rng.choice(_YAML)
    return f"{key}={value}".encode(errors="surrogatepass")


def xml_text(data: bytes, rng: random.Random) -> bytes:
    """The text of one element replaced by an odd one, or another head."""
    if rng.random() < 0.3:
        return rng.choice(_HEADS) + (data if rng.random() < 0.7 else b"")
    root = ElementTree.fromstring(data)
    chosen = rng.choice(list(root.iter()))
    chosen.text = _PLACEHOLDER
    return ElementTree.tostring(root).replace(_PLACEHOLDER.encode(), rng.choice(_XML).encode(errors="surrogatepass"))


def table_cell(data: bytes, rng: random.Random) -> bytes:
    """One cell of a comma-separated table replaced by an odd one."""
    rows = [line.split(",") for line in data.decode().splitlines()]
    row = rng.choice(rows)
    odd = (
        "",
        '"',
        "x" * _LONG,
        "..",
        "../../etc/passwd",
        "/",
        "\x00",
        "\ud800",
        "a;;b",
        ";",
        "=1+1",
        "a\tb",
        "nul",
        "-1",
        "\x1b[2J",
    )
    row[rng.randrange(len(row))] = rng.choice(odd)
    return "\n".join(",".join(r) for r in rows).encode(errors="surrogatepass")


def npz_array(data: bytes, rng: random.Random) -> bytes:
    """One array of an npz replaced by one of another type, shape or value, or by a header that lies."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = rng.choice(sorted(arrays))
    if rng.random() < 0.15:
        arrays.pop(name)
        return _zipped({n: _npy(a) for n, a in arrays.items()})
    parts = {n: _npy(a) for n, a in arrays.items()}
    parts[name] = rng.choice(_odd_arrays(arrays[name]))
    return _zipped(parts)


def safetensors_metadata(data: bytes, rng: random.Random) -> bytes:
    """The metadata of a safetensors file with one value replaced, in the header or in the JSON text inside of it."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    inner = header.get("__metadata__") or {}
    if inner and rng.random() < 0.8:
        name = rng.choice(sorted(inner))
        inner[name] = json_value(inner[name].encode(), rng).decode(errors="surrogatepass")
        text = json.dumps(header).encode()
    else:
        text = json_value(json.dumps(header).encode(), rng)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def checkpoint(data: bytes, rng: random.Random) -> bytes:
    """A checkpoint of something else than tensors by name."""
    import torch

    tensor = torch.zeros(2)
    odd: Sequence[Any] = (
        [tensor], tensor, 3, None, "text", {}, {1: tensor}, {"a": 1}, {"a": {"b": tensor}}, {"state_dict": tensor},
        {"model": None}, (tensor, tensor), {"a": float("nan")}, {"": tensor}, {"a\nb": tensor}, {"a" * _LONG: tensor},
        {"conv1.weight": torch.zeros(0)}, {"conv1.weight": torch.zeros(2, dtype=torch.complex64)},
        {"conv1.weight": torch.zeros(2).to_sparse()}, {"conv1.weight": torch.full((2,), float("nan"))},
    )  # fmt: skip
    stream = io.BytesIO()
    torch.save(rng.choice(odd), stream, _use_new_zipfile_serialization=rng.random() < 0.7)
    return stream.getvalue()


def tiff_tag(data: bytes, rng: random.Random) -> bytes:
    """One entry of the first directory of a little-endian TIFF with another tag, type, count or value."""
    changed = bytearray(data)
    start = int.from_bytes(data[4:8], "little")
    n = int.from_bytes(data[start : start + 2], "little")
    entry = start + 2 + 12 * rng.randrange(max(1, n))
    place, width = rng.choice(((0, "<H"), (2, "<H"), (4, "<I"), (8, "<I"), (8, "<I")))
    top = 1 << (8 * struct.calcsize(width))
    changed[entry + place : entry + place + struct.calcsize(width)] = struct.pack(width, rng.choice(_ENDS) % top)
    return bytes(changed)


def _parsed(data: bytes) -> Any:
    """A copy of what JSON or YAML holds, which is parsed once."""
    return copy.deepcopy(_tree(data))


@lru_cache(maxsize=64)
def _tree(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return yaml.safe_load(data)


def _with_placeholder(tree: Any, rng: random.Random) -> Any:
    """The tree with one value replaced by the placeholder, or one key renamed to it."""
    places: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                visit(node[key])

    if not isinstance(tree, dict | list) or not tree or rng.random() < 0.02:
        return _PLACEHOLDER
    visit(tree)
    node, key = rng.choice(places)
    if isinstance(node, dict) and rng.random() < 0.15:
        value = node.pop(key)
        if rng.random() < 0.5:
            node[_PLACEHOLDER] = value
    else:
        node[key] = _PLACEHOLDER
    return tree


def _npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)
    return stream.getvalue()


def _zipped(parts: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def _odd_arrays(array: np.ndarray[Any, Any]) -> list[bytes]:
    """Other arrays in its place, and headers that claim what does not follow."""
    good = _npy(array)
    lies = [
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }",
        b"{'descr': '<f2', 'fortran_order': False, 'shape': (-1,), }",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': 'none', 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': '<f8', 'fortran_order': 0, 'shape': 3, }",
        b"[" * 2_000, b"__import__('os').getcwd()", b"",
    ]  # fmt: skip
    heads = [good[:8] + struct.pack("<H", len(lie) + 1) + lie + b"\n" for lie in lies]
    values: list[Any] = [
        np.zeros(0), np.zeros((1, 2, 3, 4)), np.asarray("text"), np.asarray(["a", "b"]), np.asarray(True),
        np.asarray(1 + 2j), np.asarray(np.datetime64("2020-01-01")), np.full(array.shape or (1,), np.nan),
        np.full(3, np.inf), np.full(2, -1), np.full(2, 2**62), np.zeros((2**16, 1)), np.asarray(b"\xff"),
    ]  # fmt: skip
    return [*heads, *(_npy(v) for v in values), good[: len(good) // 2], b""]
