from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled, RepositoryNotFoundError

import tag2mask
from tag2mask.core.errors import StageError, WeightsError
from tag2mask.core.files import read_json, write_json
from tag2mask.segmentation.find_model import find_network
from tag2mask.segmentation.model import SegmentationModel
from tag2mask.segmentation.publish.hub import model_card, push
from tag2mask.segmentation.publish.provenance import Number, Provenance
from tests.helpers.refused import refused
from tests.segmentation.saved_net import STAGES, tiny, write_run

FILES = {"README.md", "config.json", "model.safetensors"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run", STAGES, {"segmenter": tiny()})


def test_saving_and_loading_changes_nothing(run: Path, tmp_path: Path) -> None:
    model = tag2mask.load(run, device="cpu")
    model.save_pretrained(tmp_path / "saved")
    assert {p.name for p in (tmp_path / "saved").iterdir()} == FILES
    for again in (
        SegmentationModel.from_pretrained(tmp_path / "saved", device="cpu"),
        tag2mask.load(tmp_path / "saved", device="cpu"),
    ):
        assert again.origin == model.origin
        assert again.classes == model.classes
        image = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        view = torch.rand(1, 3, 20, 30)
        with torch.no_grad():
            assert torch.equal(again.network.net(view), model.network.net(view))
        assert np.array_equal(again(image).labels, model(image).labels)
    again.save_pretrained(tmp_path / "twice")
    for name in FILES - {"README.md"}:  # whose example carries the folder's name
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "saved" / name).read_bytes()


def test_the_config_says_what_is_needed_and_no_path(run: Path, tmp_path: Path) -> None:
    tag2mask.load(run, device="cpu").save_pretrained(tmp_path / "saved")
    config = read_json(tmp_path / "saved" / "config.json")
    assert config["library"] == "tag2mask"
    assert config["classes"] == ["disc", "square"]
    assert (config["network"]["kind"], config["network"]["encoder"]) == ("fpn", "test_efficientnet")
    assert not {"weights", "pretrained"} & set(config["network"])  # a path would tell about the machine
    assert (len(config["mean"]), len(config["std"])) == (3, 3)
    assert config["origin"]["ledger"] == ["tags"]
    for name in ("config.json", "README.md"):
        text = (tmp_path / "saved" / name).read_text()
        assert "secret" not in text
        assert str(tmp_path) not in text


def test_the_card_has_numbers_data_first_weights_and_ledger(run: Path, tmp_path: Path) -> None:
    tag2mask.load(run, device="cpu").save_pretrained(tmp_path / "saved")
    lines = (tmp_path / "saved" / "README.md").read_text().splitlines()
    assert lines[:3] == ["---", "library_name: tag2mask", "pipeline_tag: image-segmentation"]
    assert "# saved" in lines
    assert 'model = tag2mask.load("saved")' in lines
    for line in (
        "| network | fpn on test_efficientnet |",
        "| first weights of the encoder | none |",
        "| recipe | own-data, stage segmenter, seed 0 |",
        "| trained on | folder, split train, 12 images |",
        "| supervision seen (ledger) | tags |",
        "| val | 7 | single scale | 41.3 | 30.2 | 46.1 | none | tags | 0 |",
        "| val | 7 | scales 0.5 1, CRF deeplabv2 | 43.0 | - | - | none | tags | 0 |",
    ):
        assert line in lines


def test_names_in_a_card_are_text_and_nothing_else() -> None:
    odd = [
        "<img src=x onerror=a()>",
        "a|b",
        "[x](http://y)",
        "`c`",
        "# d\n---",
        "\x1b[31m",
        "traffic_light _x_",
        "www.e.f",
    ]
    card = model_card(
        {"kind": "fpn", "encoder": "e"}, odd, Provenance(recipe="|r<b>", initial="i|j"), 'me/"n`\n```\n# <x>'
    )
    assert "<" not in card.partition("```")[0] + card.rpartition("```")[2]
    assert "background, &lt;img src=x onerror=a()&gt;, a\\|b, \\[x\\](http:\\//y), \\`c\\`, \\# d\\\\n---, " in card
    assert ", \\\\x1b\\[31m, traffic_light \\_x\\_, www\\.e.f." in card
    assert "| recipe | \\|r&lt;b&gt;, stage , seed" in card
    assert "| first weights of the encoder | i\\|j |" in card
    assert card.count("```") == 3  # the example's two, and the name's within its line
    assert 'tag2mask.load("me/\\"n`\\\\n```\\\\n# <x>")' in card


def test_a_card_says_what_is_not_known() -> None:
    settings = {"kind": "fpn", "encoder": "resnet18"}
    card = model_card(settings, ["cat"], Provenance(), "me/net")
    assert "| trained on | not known |" in card
    assert "Nothing was measured, or the run that measured it is not known." in card
    assert "# net\n" in card
    assert 'tag2mask.load("me/net")' in card
    undefined = model_card(
        settings, ["cat"], Provenance(numbers=(Number("p", "val", 1, None, 0, "single scale"),)), "net"
    )
    assert "| val | 1 | single scale | - |" in undefined


def test_a_folder_that_holds_other_things_is_refused(run: Path, tmp_path: Path) -> None:
    model = tag2mask.load(run, device="cpu")
    (tmp_path / "notes.txt").write_text("mine")
    with refused(StageError, "other things (notes.txt)", "nothing was written"):
        model.save_pretrained(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    with refused(StageError, "notes.txt is a file", "name a new folder"):
        model.save_pretrained(tmp_path / "notes.txt")


def test_files_of_others_under_the_same_names_are_kept(run: Path, tmp_path: Path) -> None:
    model = tag2mask.load(run, device="cpu")
    foreign = '{"library": "transformers"}'
    for number, files in enumerate(
        (
            {"config.json": foreign, "model.safetensors": "weights", "README.md": "mine"},
            {"README.md": "mine"},
            {"model.safetensors": "weights"},
            {"config.json": foreign, "notes.txt": "mine"},
            {"config.json": "no JSON"},
            {"config.json": '["tag2mask"]'},
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        first = sorted(files)[0]
        with refused(StageError, f"other things ({first}", "nothing was written", "Name a new"):
            model.save_pretrained(folder)
        assert {p.name: p.read_text() for p in folder.iterdir()} == files


def test_an_empty_folder_and_one_saved_before_are_written(run: Path, tmp_path: Path) -> None:
    model = tag2mask.load(run, device="cpu")
    model.save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("outdated")
    (tmp_path / "notes.txt").write_text("mine")
    model.save_pretrained(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {*FILES, "notes.txt"}
    assert (tmp_path / "README.md").read_text() != "outdated"
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_files_that_do_not_belong_together_are_refused(run: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    tag2mask.load(run, device="cpu").save_pretrained(saved)
    config = read_json(saved / "config.json")
    for change, text in (
        ({"classes": ["disc", "stripe"]}, r"names the classes \['disc', 'stripe'\], but .* different networks"),
        ({"library": "transformers"}, "config.json was not written by tag2mask"),
        ({"origin": {"recipes": "x"}}, "entry 'origin' that this version of tag2mask does not read"),
    ):
        write_json(saved / "config.json", {**config, **change})
        with pytest.raises(WeightsError, match=text):
            find_network(saved)
    write_json(saved / "config.json", {k: v for k, v in config.items() if k != "origin"})
    assert find_network(saved).origin == Provenance()
    (saved / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="has a config.json, but no model.safetensors"):
        find_network(saved)


def test_a_name_on_the_hub_is_fetched(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = tmp_path / "cache"
    tag2mask.load(run, device="cpu").save_pretrained(saved)
    requested: list[tuple[str, str | None, tuple[str, ...]]] = []

    def snapshot(repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        requested.append((repo_id, revision, tuple(sorted(allow_patterns))))
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.chdir(tmp_path)
    assert tag2mask.load("me/animals", device="cpu").origin.recipe == "own-data"
    SegmentationModel.from_pretrained("me/animals", revision="v1", device="cpu")
    files = ("README.md", "config.json", "model.safetensors")
    assert requested == [("me/animals", None, files), ("me/animals", "v1", files)]
    (saved / "config.json").unlink()
    with refused(WeightsError, "'me/animals' on the hub", "no config.json", "name a network"):
        tag2mask.load("me/animals")


class TransportError(Exception):
    """As the client's library for HTTP may raise one."""


def refusal(text: str) -> Exception:
    response: Any = SimpleNamespace(headers={}, request=None)
    return RepositoryNotFoundError(text, response=response)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (LocalEntryNotFoundError("offline"), "'me/animals' does not exist here … the hub cannot be reached"),
        (ConnectionError("down"), "the hub cannot be reached"),
        (TransportError("down"), "the hub cannot be reached … TransportError"),
        (refusal("Repository Not Found.\nmore"), "from the hub … Repository Not Found … Check the name"),
    ],
)
def test_a_hub_that_does_not_give_is_named(
    error: Exception, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def snapshot(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.chdir(tmp_path)
    with refused(WeightsError, text):
        tag2mask.load("me/animals")


def test_without_a_network_the_real_client_gives_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the tests run with HF_HUB_OFFLINE=1
    with refused(WeightsError, "'me/no-such-net' does not exist here", "the hub cannot be reached"):
        tag2mask.load("me/no-such-net")


class _Api:
    """What is used of the hub's client; keeps what was uploaded."""

    uploads: list[tuple[str, str]]
    error: Exception | None = None
    kept: Path

    def __init__(self, token: str | None = None) -> None:
        self.token = token

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> None:
        if self.error is not None:
            raise self.error
        assert exist_ok
        self.uploads.append((repo_id, f"private={private} token={self.token}"))

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> Any:
        shutil.copytree(folder_path, self.kept)

        class Commit:
            commit_url = f"https://hub.invalid/{repo_id}/commit/1"

        self.uploads.append((repo_id, commit_message))
        return Commit()


def test_an_upload_is_what_save_pretrained_writes(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads: list[tuple[str, str]] = []
    monkeypatch.setattr(_Api, "uploads", uploads, raising=False)
    monkeypatch.setattr(_Api, "kept", tmp_path / "kept", raising=False)
    monkeypatch.setattr(huggingface_hub, "HfApi", _Api)
    model = tag2mask.load(run, device="cpu")
    address = model.push_to_hub("me/animals", private=True, token="secret", commit_message="first")
    assert address == "https://hub.invalid/me/animals/commit/1"
    assert uploads == [("me/animals", "private=True token=secret"), ("me/animals", "first")]
    assert {p.name for p in (tmp_path / "kept").iterdir()} == FILES
    assert 'tag2mask.load("me/animals")' in (tmp_path / "kept" / "README.md").read_text()
    assert find_network(tmp_path / "kept").origin == model.origin


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OfflineModeIsEnabled("offline"), "'me/animals' was not uploaded … the hub cannot be reached"),
        (TransportError("down"), "the hub cannot be reached … TransportError"),
        (refusal("Forbidden"), "'me/animals' was not uploaded … Forbidden … Log in with a token"),
    ],
)
def test_an_upload_that_fails_is_named(
    error: Exception, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Api, "error", error)
    monkeypatch.setattr(huggingface_hub, "HfApi", _Api)
    with refused(WeightsError, text):
        push(tmp_path, "me/animals", None, None, "message")
