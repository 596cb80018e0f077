"""States that docs/troubleshooting.md cures: how each is made, what is typed in it, and what is typed to cure it."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tag2mask.cli.app import app
from tag2mask.core.locks import exclusive
from tag2mask.core.manifest import MANIFEST
from tests.helpers.draw import draw_scene, save_image, write
from tests.project.snippets import read


class Begun(BaseException):
    """A run that has seen nothing wrong and would now train."""


Words = list[str]
RUN = "tag2mask run runs/old/recipe.yaml --out runs/old"
PHOTOS = "folder root=photos tags=tags.csv images=images"
_SETTING = re.compile(r'"([a-z_.]+=[^"]+)"|([a-z_.]+=(?:\[[^]]*\]|[^\s;,]*[^\s;,.]))|(--[a-z][-a-z]* \d+)')
_COMMAND = re.compile(r"tag2mask [a-z].*?(?= \(|\. |; |, |\.?$)", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """A row of the page.

    Attributes:
        texts: what its left column quotes; ``…`` stands for a name, a number or a list.
        advice: its right column.
    """

    texts: tuple[str, ...]
    advice: str

    @property
    def name(self) -> str:
        return self.texts[0]

    @property
    def code(self) -> list[str]:
        """What the right column has in backticks."""
        return re.findall(r"`([^`]+)`", self.advice)

    @property
    def cures(self) -> bool:
        """Whether it names something to type: a command, a setting, an option, or where in the text one stands."""
        typed = any(re.match(r"""['"]?(tag2mask |--[a-z]|[a-z_.]+=|[a-z]+: )""", code) for code in self.code)
        return typed or bool(re.search(r"\bcommand\b|text (has|names the (setting|override|stages))", self.advice))

    def said_in(self, output: str) -> bool:
        """Whether an output holds one of the texts, anything in its gaps."""
        flat = " ".join(output.split())
        parts = [[re.escape(part.strip()) for part in text.split("…")] for text in self.texts]
        return any(re.search(".*?".join(part), flat) for part in parts)


ROWS = tuple(
    Row(tuple(re.findall(r"`([^`]+)`", left)), right)
    for left, right in re.findall(r"^\| (`.+?) \| (.+) \|$", read("docs/troubleshooting.md"), re.MULTILINE)
)


@dataclass(frozen=True)
class Said:
    """What a command ended with.

    Attributes:
        row: of the page.
        words: that were typed behind ``tag2mask``.
        output: all it printed, its error included.
    """

    row: Row
    words: Sequence[str]
    output: str

    @property
    def settings(self) -> list[Words]:
        """Settings and options that the output names, each as it is typed."""
        found = (next(filter(None, groups)) for groups in _SETTING.findall(self.output))
        return [word.split() if word.startswith("--") else [word] for word in found]

    @property
    def commands(self) -> list[Words]:
        """Commands in the output, as a shell would read them, without ``tag2mask``."""
        return [shlex.split(text)[1:] for text in _COMMAND.findall(self.output)]


Take = Callable[[Said], list[Words]]
"""What is typed after a text: commands, the last of which has to end well."""


def setting_of_row(said: Said) -> list[Words]:
    """The same command with the first setting or option of the page's right column."""
    code = next(code for code in said.row.code if re.match(r"""['"]?(--[a-z-]+ |[a-z_.]+=\S)""", code))
    return [[*said.words, *shlex.split(code)]]


def setting_of_row_instead(said: Said) -> list[Words]:
    """The same command with the first setting of the page's right column in place of its last word."""
    ((*_, word),) = setting_of_row(said)
    return [[*said.words[:-1], word]]


def setting_of_text(said: Said) -> list[Words]:
    """The same command with the setting or option that the text names last."""
    return [[*said.words, *said.settings[-1]]]


def command_of_text(said: Said) -> list[Words]:
    """The command that the text names, which shows what there is."""
    return said.commands[-1:]


def command_of_text_first(said: Said) -> list[Words]:
    """The command that the text names, then the same command."""
    return [said.commands[-1], list(said.words)]


def command_of_row(**names: str) -> Take:
    """The command of the page's right column, its capital words filled in."""

    def take(said: Said) -> list[Words]:
        code = next(code for code in said.row.code if code.startswith("tag2mask "))
        return [[names.get(word, word) for word in shlex.split(code)[1:]]]

    return take


def setting_of_row_filled(**names: str) -> Take:
    """The same command with the option of the page's right column, its capital words filled in."""
    return lambda said: [[names.get(word, word) for word in words] for words in setting_of_row(said)]


def other(*commands: str) -> Take:
    """What the row says in words."""
    return lambda said: [shlex.split(text)[1:] for text in commands]


def removed_first(*commands: str) -> Take:
    """The file that the text names is removed; then some commands."""

    def take(said: Said) -> list[Words]:
        (path,) = {Path(word) for word in re.findall(r"(\S+) is not (?:a metric row|what tag2mask)", said.output)}
        path.unlink()
        return other(*commands)(said)

    return take


@dataclass(frozen=True)
class Cure:
    """How a row is tried.

    Attributes:
        command: what is typed in the state; ``TINY`` stands for the settings of the finished run without its data.
        take: what is then typed.
        state: makes the state, in a folder with ``photos`` and the finished run ``runs/old``; returns what leaves it.
        shows: what the cure has to print; where empty, the row's text has to be gone.
    """

    command: str
    take: Take
    state: Callable[[pytest.MonkeyPatch], Callable[[], object] | None] = lambda patch: None
    shows: tuple[str, ...] = ()


def tagged(rows: Sequence[str]) -> Callable[[pytest.MonkeyPatch], None]:
    """A table for ``photos`` that fits no mask: what stands behind the name of each photo."""

    def state(patch: pytest.MonkeyPatch) -> None:
        shutil.rmtree("photos/masks")
        lines = [f"photo {number:02d}.png,{rows[number % len(rows)]}\n" for number in range(12)]
        write(Path("photos/tags.csv"), "image,tags\n" + "".join(lines))

    return state


def _many_names(patch: pytest.MonkeyPatch) -> None:
    tagged([f"name{n};Name{n};NAME{n}" for n in range(7)])(patch)


def _empty(count: int) -> Callable[[pytest.MonkeyPatch], None]:
    def state(patch: pytest.MonkeyPatch) -> None:
        for number in range(count):
            Path(f"photos/images/photo {number:02d}.png").write_bytes(b"")

    return state


def _masks_of_255(patch: pytest.MonkeyPatch) -> None:
    write(Path("photos/tags.csv"), "image,tags\n" + "".join(f"photo {number:02d}.png,disc\n" for number in range(12)))
    for path in sorted(Path("photos/masks").iterdir()):
        labels = np.asarray(Image.open(path))
        Image.fromarray(np.where(labels > 0, 255, 0).astype(np.uint8)).save(path)


def _class_of_val(patch: pytest.MonkeyPatch) -> None:
    tagged(["disc", "square", "stripe", "blob"])(patch)
    names = [f"photo {number:02d}" for number in range(12)]
    for split, chosen in {"train": [n for i, n in enumerate(names) if i % 4 != 3], "val": names[3::4]}.items():
        write(Path(f"photos/splits/{split}.txt"), "".join(f"{name}\n" for name in chosen))


def _one_photo(patch: pytest.MonkeyPatch) -> None:
    save_image(Path("one/disc/a.png"), draw_scene(0, tags=(0,)).image)


def _moved(patch: pytest.MonkeyPatch) -> None:
    Path("photos").rename("elsewhere")


def _copied_alone(patch: pytest.MonkeyPatch) -> None:
    shutil.copytree("runs/old", "away/old", symlinks=True)


def _held(patch: pytest.MonkeyPatch) -> Callable[[], object]:
    held = ExitStack()
    held.enter_context(exclusive(Path("runs/old/lock"), "the run runs/old"))
    return held.close


def _full(patch: pytest.MonkeyPatch) -> Callable[[], object]:
    def full(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    inner = pytest.MonkeyPatch()
    inner.setattr("os.replace", full)
    return inner.undo


def _flipped(path: str) -> Callable[[pytest.MonkeyPatch], None]:
    """The last byte of a file of the run is another."""

    def state(patch: pytest.MonkeyPatch) -> None:
        data = bytearray(Path(path).read_bytes())
        data[-1] ^= 1
        Path(path).write_bytes(bytes(data))

    return state


def _gone(path: str) -> Callable[[pytest.MonkeyPatch], None]:
    def state(patch: pytest.MonkeyPatch) -> None:
        Path(path).unlink()

    return state


def _written(path: str, text: str = "mine") -> Callable[[pytest.MonkeyPatch], None]:
    def state(patch: pytest.MonkeyPatch) -> None:
        write(Path(path), text)

    return state


def _begun(patch: pytest.MonkeyPatch) -> None:
    app(["run", "runs/old/recipe.yaml", "--only", "classifier", "--out", "runs/new"], standalone_mode=False)


def _predicted(patch: pytest.MonkeyPatch) -> None:
    app([*shlex.split(PREDICT)[1:]], standalone_mode=False)
    write(Path("masks/sources.json"), "[1]")


def _copied(patch: pytest.MonkeyPatch) -> None:
    maps = Path("runs/old/cam/maps")
    (maps / "photo 01.npz").write_bytes((maps / "photo 03.npz").read_bytes())


def _relabelled(patch: pytest.MonkeyPatch) -> None:
    """A mask of which a pixel was changed by a program that keeps the text chunks."""
    path = Path("runs/old/amn-lpcam-masks/masks/photo 01.png")
    with Image.open(path) as image:
        text = PngInfo()
        for key, value in image.info.items():
            if isinstance(key, str) and isinstance(value, str):
                text.add_text(key, value)
        image.putpixel((0, 0), 1 - min(1, int(np.asarray(image)[0, 0])))
        image.save(path, pnginfo=text)


COMPARE = "tag2mask compare runs/old --stage cam --stage lpcam --images 0 --resamples 10"
PREDICT = "tag2mask predict runs/old photos/images --out masks"
CURES = {
    "data.root is not set": Cure("tag2mask run light TINY --only classifier --out runs/new", setting_of_row),
    "expected image and tags": Cure(f"tag2mask doctor {PHOTOS}", setting_of_row, tagged(["disc,square", "stripe"])),
    "whose parts are known": Cure(
        f"tag2mask doctor {PHOTOS} all_classes=[disc,square,stripe]", setting_of_text, tagged(["disc+square", "stripe"])
    ),
    "look like several tags": Cure(
        f"tag2mask doctor {PHOTOS}", setting_of_row, tagged(['"disc,square"', "stripe", "disc", "square"])
    ),
    "differ in … alone": Cure(f"tag2mask doctor {PHOTOS}", setting_of_row, tagged(["Disc", "disc", "stripe"])),
    "is empty (0 bytes)": Cure(
        "tag2mask run light TINY data.root=photos --out runs/new",
        other(f"tag2mask doctor {PHOTOS}"),
        _empty(2),
        ("photo 00.png is empty", "photo 01.png is empty"),
    ),
    "the masks hold 0 and 255": Cure(f"tag2mask doctor {PHOTOS}", setting_of_row, _masks_of_255),
    "holds a single image": Cure("tag2mask doctor one val=val", setting_of_row, _one_photo),
    "data.root = … of … is not there": Cure(
        "tag2mask eval runs/old", setting_of_row_filled(FOLDER="elsewhere"), _moved
    ),
    "is not finished here: its link": Cure(
        "tag2mask eval away/old",
        other("tag2mask pack runs/old --out away/packed", "tag2mask eval away/packed"),
        _copied_alone,
    ),
    "problems in the data": Cure(
        "tag2mask run light TINY data.root=photos --out runs/new",
        command_of_text,
        _empty(7),
        tuple(f"photo {number:02d}" for number in range(7)),
    ),
    "more of the same kinds": Cure(
        "tag2mask run light TINY data.root=photos --out runs/new",
        command_of_text,
        _many_names,
        tuple(f"'Name{number}'" for number in range(7)),
    ),
    "and none is without": Cure(
        "tag2mask run light TINY data.root=photos classifier.negatives=drop --out runs/new",
        setting_of_row,
        tagged(["disc;square", "disc", "", "disc;stripe"]),
    ),
    "unknown setting": Cure(
        "tag2mask show own-data classifier.train.epoch=3", command_of_row(RECIPE="own-data"), shows=("epochs: ",)
    ),
    "unknown recipe": Cure("tag2mask show own-dta", command_of_row(), shows=("own-data",)),
    "allow_supervision is": Cure(
        "tag2mask run light TINY data.root=photos 'segmenter.reads={}' segmenter.truth=true --out runs/new",
        setting_of_text,
    ),
    "is not key=value": Cure("tag2mask show own-data photos", setting_of_row_instead),
    "is not YAML: …": Cure("tag2mask show own-data 'cam.scales=[1.0,'", setting_of_row_instead),
    "missing setting '….reads.…'": Cure("tag2mask show own-data 'cam.reads={}'", setting_of_text),
    "is in use by process": Cure(RUN, other(RUN.replace("--out runs/old", "--out runs/new")), _held),
    "Nothing was left half-written": Cure(RUN, other(RUN), _full),
    "do not fit the checksum": Cure(
        "tag2mask export runs/old --format palette --stage amn-lpcam-masks --out labels",
        command_of_text_first,
        _relabelled,
    ),
    "names seed … twice": Cure("tag2mask show own-data seeds=[0,0]", setting_of_row),
    "has no … of image": Cure("tag2mask eval runs/old", command_of_text_first, _gone("runs/old/cam/maps/photo 01.npz")),
    "were made from another image": Cure("tag2mask eval runs/old", command_of_text_first, _copied),
    "is not a run (it has no": Cure("tag2mask eval photos", other("tag2mask eval runs/old")),
    "is not a metric row": Cure(
        COMPARE,
        removed_first(RUN, COMPARE),
        _written("runs/old/cam-seeds/metrics.jsonl"),
    ),
    "files of stage '…'": Cure(
        "tag2mask report runs/old --out page.html", command_of_text_first, _written("runs/old/cam-seeds/metrics.jsonl")
    ),
    "is not what tag2mask wrote`": Cure(
        "tag2mask eval runs/old", command_of_text_first, _written(f"runs/old/cam/{MANIFEST}", "[]")
    ),
    "are left out of the training": Cure(
        "tag2mask run light TINY data.root=photos --out runs/new",
        lambda said: [[*said.words, "data.classes=[disc,square,stripe]"]],
        _class_of_val,
    ),
    "no foreground centre": Cure(
        "tag2mask run runs/old/recipe.yaml prototypes.mu_f=1.0 --only prototypes --out runs/new",
        other("tag2mask run runs/old/recipe.yaml prototypes.mu_f=0.0 --only prototypes --out runs/new"),
    ),
    "refined seeds are not masks": Cure(
        f"{RUN} --only lpcam-refined-score lpcam-refined-score.unsure=false",
        other(f"{RUN} --only lpcam-refined-score lpcam-refined-score.unsure=true"),
    ),
    "stage '…' makes …, but": Cure(
        "tag2mask eval runs/old --stage prototypes", other("tag2mask eval runs/old --stage cam")
    ),
    "nothing to sweep": Cure(
        "tag2mask sweep light data.root=photos --stage lpcam-seeds prototypes.tau=0.05", setting_of_row_instead
    ),
    "nothing to report": Cure(
        "tag2mask report runs/new --out page.html",
        other(RUN.replace("--out runs/old", "--out runs/new"), "tag2mask report runs/new --out page.html"),
        _begun,
    ),
    "is not a page of tag2mask": Cure(
        "tag2mask report runs/old --out notes.html",
        other("tag2mask report runs/old --out page.html"),
        _written("notes.html"),
    ),
    "is not what stage '…' has trained": Cure(
        PREDICT, command_of_text_first, _flipped("runs/old/segmenter/weights.safetensors")
    ),
    "holds other things": Cure(PREDICT, other(PREDICT.replace("masks", "new")), _written("masks/mine.txt")),
    "wrote: remove it": Cure(PREDICT, removed_first(PREDICT), _predicted),
    "more than the … allowed": Cure(f"{PREDICT} --max-pixels 100", setting_of_text),
}
"""How each row is tried, by words of its left column."""

NOT_TRIED = {
    "word … of the command": "what the variable should hold is not known; tests/cli/test_words.py",
    "a worker process was killed": "takes processes that are killed; tests/pipeline/test_worker_pool.py",
    "a process that decodes images": "takes processes that are killed; tests/training/test_fit.py",
    "another process has ended": "takes several processes; tests/training/test_processes.py",
    "a plain command uses one device": "its line is of torchrun; tests/training/test_processes.py",
    "need the package": "its command is of pip and wants the network; tests/backbones/test_weights.py",
    "no finished classifier": "the recipe has none, and none can be typed; tests/analysis/test_mask_quality.py",
    "cannot be compared: split": "which runs belong together a person knows; tests/analysis/test_map_thresholds.py",
    "no kind of threshold in common": "which runs belong together a person knows; tests/compare/test_compare.py",
    "no font of this machine": "takes a machine without fonts; tests/report/test_figures.py",
    "an ONNX file of another network": "only its maker knows its classes; tests/segmentation/onnx/test_runtime.py",
    "do not fit into memory": "takes a memory that is full; tests/segmentation/predict/test_labeller.py",
    "is the last that the class scores": "an argument in Python; tests/methods/test_cam_models.py",
    "class scores do not depend on": "an argument in Python; tests/methods/test_cam_models.py",
    "which layer the class scores depend on": "an argument in Python; tests/methods/test_cam_models.py",
    "images are on …": "takes a GPU, and its line is Python; tests/methods/test_cam_models.py",
}
"""Rows that tell what to type and are not tried here: why, and the test that holds their text."""
