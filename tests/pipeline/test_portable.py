"""A system without Unix's own modules, names and links, as Windows is one, runs all the same."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tag2mask.core.errors import StageError
from tag2mask.core.links import followed, is_link, links_in, make_link, remove_link
from tag2mask.core.manifest import MANIFEST
from tag2mask.data.layout import holds_ours
from tag2mask.pipeline.run_folder import RunFolder
from tag2mask.sweep.run import prepare, share_store
from tests.helpers.draw import draw_folder
from tests.helpers.refused import refused
from tests.helpers.tiny import files_of, python, tiny_overrides
from tests.project.source import PACKAGE, imports, modules

MISSING = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
"""Modules that Windows does not have."""
LACKS = {
    "os": ("fchmod", "fork", "forkpty", "getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getuid", "killpg",
           "mkfifo", "mknod", "pread", "pwrite", "register_at_fork", "sched_getaffinity", "setsid", "statvfs", "uname",
           "wait", "wait3", "wait4", "waitid"),
    "signal": ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "alarm", "pause",
               "pthread_sigmask", "setitimer", "sigwait"),
    "time": ("tzset",),
}  # fmt: skip
"""Names that Windows does not have."""
AS_WINDOWS = """
import os, signal, sys
import psutil  # which reads limits by ``resource`` on Linux, and not on Windows
sys.modules["fcntl"] = sys.modules["resource"] = None
def refuse(*_, **__): raise OSError("A required privilege is not held by the client")
os.symlink = refuse
import multiprocessing.util, lightning.fabric, torch.utils.data  # what these use of Unix is theirs
del os.geteuid, os.getloadavg, os.pread, os.pwrite, os.mkfifo, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM
from tag2mask.cli.app import main
for words in sys.argv[1].split("\\x1e"):
    sys.argv = ["tag2mask", *words.split("\\x1f")]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""


def unix_only() -> Iterator[str]:
    """Uses of names that Windows lacks, where the same file does not look whether they are there."""
    for module in modules():
        text = module.path.read_text(encoding="utf-8")
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
                continue
            owner, name = node.value.id, node.attr
            guarded = f'hasattr({owner}, "{name}")' in text or "suppress(OSError, AttributeError)" in text
            if name in LACKS.get(owner, ()) and not guarded:
                yield f"{module.path.relative_to(PACKAGE)}:{node.lineno} {owner}.{name}"


def test_nothing_of_unix_alone_is_imported_or_used() -> None:
    found = [f"{m.name}:{line} {name}" for m in modules() for line, name in imports(m) if name.split(".")[0] in MISSING]
    assert found == []
    assert list(unix_only()) == []


@pytest.mark.slow
def test_a_run_without_them_is_made_read_and_finished(tmp_path: Path) -> None:
    draw_folder(tmp_path / "folder", 8)
    out, again = tmp_path / "runs" / "run", tmp_path / "runs" / "again"
    run = ["run", "own-data", *tiny_overrides("own-data", tmp_path / "folder"), "--out"]
    photos, predicted = tmp_path / "folder" / "images", tmp_path / "predicted"
    verbs = [
        [*run, str(out)], [*run, str(again)], ["eval", str(out), "--stage", "cam"],
        ["report", str(out), "--out", str(tmp_path / "page.html")],
        ["predict", str(out), str(photos), "--out", str(predicted)],
        ["export", str(out), "--format", "palette", "--out", str(tmp_path / "palette")],
    ]  # fmt: skip
    done = python(AS_WINDOWS, "\x1e".join("\x1f".join(words) for words in verbs))
    assert done.returncode == 0, done.stderr
    assert not [p for p in out.rglob("*") if p.is_symlink()]
    stages = {p.name.removesuffix(".link") for p in out.glob("*.link")}
    assert stages == {link.name for link in links_in(out)}
    assert all((followed(out / name) / MANIFEST).is_file() for name in stages)
    assert files_of(out) == files_of(again), "one store serves both"
    assert "segmenter: done already" in done.stderr
    assert len(list((predicted / "masks").glob("*.png"))) == 8
    assert not list(tmp_path.rglob("*.work")), "who was at work has gone"


@pytest.fixture
def linkless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links cannot be made."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("A required privilege is not held by the client")

    monkeypatch.setattr(os, "symlink", refuse)


@pytest.mark.usefixtures("linkless")
def test_a_file_stands_for_a_link(tmp_path: Path) -> None:
    link, first, second = tmp_path / "run" / "maps", tmp_path / ".store" / "a", tmp_path / ".store" / "b"
    for folder in (link.parent, first, second):
        folder.mkdir(parents=True)
    for to in (first, second):
        make_link(link, os.path.relpath(to, link.parent))
        assert followed(link) == to
        assert is_link(link)
    assert [p.name for p in link.parent.iterdir()] == ["maps.link"]
    assert (link.parent / "maps.link").read_text() == "../.store/b\n"
    assert list(links_in(link.parent)) == [link]
    remove_link(link)
    assert not is_link(link)
    assert followed(link) == link


def test_a_link_of_the_other_form_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "maps"
    (tmp_path / "maps.link").write_text("a\n")
    make_link(link, "b")
    assert [p.name for p in tmp_path.iterdir()] == ["maps"]
    monkeypatch.setattr(os, "symlink", lambda *_, **__: (_ for _ in ()).throw(OSError("no")))
    make_link(link, "c")
    assert [p.name for p in tmp_path.iterdir()] == ["maps.link"]
    assert followed(link) == tmp_path / "c"


@pytest.mark.parametrize("held", [b"", b"\xff\xfe", b"\n"])
def test_a_damaged_file_counts_as_no_link_and_is_written_again(held: bytes, tmp_path: Path) -> None:
    link = tmp_path / "maps"
    (tmp_path / "maps.link").write_bytes(held)
    assert followed(link) == link
    assert not is_link(link)
    make_link(link, "b")
    assert is_link(link)


@pytest.mark.usefixtures("linkless")
def test_runs_of_a_sweep_find_their_store_and_stages_come_and_go(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "sweep"
    out.mkdir(parents=True)
    share_store(out)
    share_store(out)
    prepare(out, "sweep.json", "sweep")
    assert holds_ours(out)
    run = RunFolder(out / "point")
    run.prepare()
    assert run.store.root == tmp_path / "runs" / ".store"
    artefact = run.store.folder("cam", "0" * 64)
    artefact.mkdir()
    for name in ("cam", "gone", "cam"):
        run.link(name, artefact)
    assert run.artefact("cam") == artefact
    run.unlink_others({"cam"})
    assert [p.name for p in run.path.iterdir()] == ["cam.link"]
    (run.path / "mine").mkdir()
    with refused(StageError, "mine stands", "stage 'mine'", "move it away"):
        run.link("mine", artefact)
