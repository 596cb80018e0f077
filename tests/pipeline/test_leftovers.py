"""What a killed run leaves half-written in its folder or in the store is removed by the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from tag2mask.core.locks import at_work
from tag2mask.pipeline.execute import run_plan
from tag2mask.pipeline.run_folder import RunFolder


def test_a_run_whose_first_file_was_never_whole_is_begun(tmp_path: Path) -> None:
    left = tmp_path / "runs" / "run" / ".123-0.tmp"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    RunFolder(left.parent).prepare()


def test_run_removes_what_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Exception):
        """Instead of a session."""

    def stop(*_: object) -> None:
        raise Stop

    folder = RunFolder(tmp_path / "runs" / "run")
    folder.prepare()
    (folder.path / "recipe.yaml").write_text("begun")
    left = [folder.path / ".1-0.tmp", folder.path / "figures" / ".7-12.tmp", folder.store.root / ".9-1.tmp"]
    stays = [folder.store.root / "cam-0" / ".9-1.tmp", folder.path / ".own.tmp"]  # a stage's own lock guards the first
    for path in (*left, *stays):
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    monkeypatch.setattr("tag2mask.pipeline.execute.preflight", lambda plan: None)
    monkeypatch.setattr("tag2mask.pipeline.execute.Session", stop)

    class Plan:
        class recipe:
            class engine:
                threads = None

    with at_work(folder.store.root, below=False):
        left[2].write_text("being written")
        with pytest.raises(Stop):
            run_plan(Plan(), folder)  # type: ignore[arg-type]  # nothing of it is looked at
    assert [path.exists() for path in left] == [False, False, True]  # another run is at work in the store
    with pytest.raises(Stop):
        run_plan(Plan(), folder)  # type: ignore[arg-type]  # as above
    assert not left[2].exists()
    assert all(path.exists() for path in stays)
