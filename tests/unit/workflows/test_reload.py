"""Folders that change while the library is in use."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from atelier.workflows.library import Library, LibraryInvalid

STYLE = {"title": "Pixel art", "prompt": "Pixel Art, 16 bit", "classic": {"look": "cartoon"}}


def graph(color: int = 0) -> dict[str, Any]:
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"color": color}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
    }


def write(file: Path, body: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # As editors do: another file takes the name, however fast the clock is.
    new = file.with_suffix(".tmp~")
    new.write_text(body if isinstance(body, str) else json.dumps(body))
    new.replace(file)


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        write(path / "plain.json", graph())
        self.library = Library([path])

    def write(self, name: str, body: Any) -> None:
        write(self.path / name, body)

    def look(self) -> bool:
        if not self.library.scan():
            return False
        before = self.library.revision
        self.library.assemble()
        return self.library.revision > before

    def color(self, name: str = "plain") -> int:
        (only,) = self.library.get(name).graphs.values()
        return int(only["1"]["inputs"]["color"])


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "own")


def test_a_file_by_itself_is_a_workflow(folder: Folder) -> None:
    assert folder.library.origin("plain") == "folder"
    assert folder.library.origin("style_change") == "shipped"
    assert [one.node for one in folder.library.get("plain").manifest.variants[0].outputs] == ["2"]
    assert folder.look() is False


@pytest.mark.parametrize(
    ("files", "inputs"),
    [
        ({"other.json": {"workflow": graph(), "inputs": ["color"]}}, ["color"]),
        ({"other/graph.json": graph()}, []),
        ({"other/graph.json": graph(), "other/manifest.json": {"inputs": ["color"]}}, ["color"]),
        ({"other/graph.json": graph(), "other/manifest.toml": 'title = "O"\ninputs = []'}, []),
        (
            {"other.json": {"graph": graph(), "manifest": {"inputs": [{"name": "1.color"}]}}},
            ["1.color"],
        ),
    ],
)
def test_short_forms_are_understood(folder: Folder, files: Any, inputs: list[str]) -> None:
    for name, body in files.items():
        folder.write(name, body)
    assert folder.look() is True
    assert [one.name for one in folder.library.get("other").manifest.inputs] == [
        *inputs,
        "batch_size",
    ]


def test_files_that_come_change_and_go_are_followed(folder: Folder) -> None:
    version, revision = folder.library.get("plain").version, folder.library.revision
    folder.write("plain.json", graph(7))
    folder.write("new.json", graph(8))
    assert folder.look() is True
    assert (folder.color(), folder.color("new")) == (7, 8)
    assert folder.library.get("plain").version != version
    assert folder.library.revision > revision
    (folder.path / "new.json").unlink()
    assert folder.look() is True
    assert folder.library.names() == ("style_change", "plain")


def test_a_faulty_file_keeps_what_was_there_and_is_told(folder: Folder) -> None:
    for body, said in [
        ("{", "plain.json: "),
        ({"1": {"inputs": {}}}, "node 1 has no class_type"),
        ({**graph(), "3": {"class_type": "A", "inputs": {"a": ["9", 0]}}}, "node 9, which is not"),
        ({"workflow": graph(), "inputs": ["colour"]}, "colour is not an input"),
        ("[]", "it is a list"),
    ]:
        folder.write("plain.json", body)
        assert folder.look() is False, "nothing that runs has changed"
        assert said in "; ".join(folder.library.problems)
        assert folder.color() == 0
    with pytest.raises(LibraryInvalid):
        Library([folder.path])
    assert Library([folder.path], strict=False).names() == ("style_change",)
    folder.write("plain.json", graph(3))
    assert folder.look() is True
    assert folder.library.problems == ()
    assert folder.color() == 3


def test_a_file_whose_name_leads_elsewhere_is_refused(folder: Folder) -> None:
    folder.write("a{b}.json", graph())
    folder.write("inline/graph.json", graph())
    folder.write("My portrait (API).json", graph())
    folder.look()
    assert len(folder.library.problems) == 2
    assert all("can't be a workflow's name" in problem for problem in folder.library.problems)
    assert folder.library.names() == ("style_change", "My portrait (API)", "plain")


def test_a_faulty_override_leaves_the_shipped_workflow(folder: Folder) -> None:
    folder.write("style_change.json", "nonsense")
    folder.look()
    assert folder.library.origin("style_change") == "shipped"
    folder.write("style_change.json", graph(4))
    folder.look()
    assert folder.library.origin("style_change") == "folder"
    assert folder.library.names()[0] == "style_change"
    (folder.path / "style_change.json").unlink()
    folder.look()
    assert folder.library.origin("style_change") == "shipped"


def test_a_folder_that_is_away_keeps_its_workflows(folder: Folder) -> None:
    shutil.move(folder.path, folder.path.with_name("away"))
    folder.look()
    assert "is not a folder" in folder.library.problems[0]
    assert folder.color() == 0
    shutil.move(folder.path.with_name("away"), folder.path)
    folder.look()
    assert folder.library.problems == ()
    assert folder.color() == 0


def test_a_style_is_offered_at_once_and_changes_the_workflows_that_offer_it(
    folder: Folder,
) -> None:
    before = {name: folder.library.get(name) for name in folder.library.names()}
    folder.write("styles/pixel_art.json", STYLE)
    assert folder.look() is True
    now = folder.library.get("style_change")
    styles = now.manifest.input("style")
    assert styles is not None
    assert styles.choice("pixel_art") is not None
    assert now.version != before["style_change"].version
    assert folder.library.get("plain") is before["plain"], "what has not changed is not built anew"
    folder.write("styles/pixel_art.json", {**STYLE, "prompt": ""})
    folder.look()
    assert "pixel_art.json: prompt" in folder.library.problems[0]
    assert folder.library.styles()["pixel_art"].prompt == STYLE["prompt"]
    shutil.rmtree(folder.path / "styles")
    assert folder.look() is True
    assert folder.library.get("style_change").version == before["style_change"].version


def test_hidden_files_and_backups_are_nothing(folder: Folder) -> None:
    folder.write(".plain.json", "nonsense")
    folder.write("..data/plain.json", "nonsense")
    (folder.path / "plain.json~").write_text("nonsense")
    (folder.path / "notes.txt").write_text("nonsense")
    (folder.path / "empty").mkdir()
    folder.look()
    assert folder.library.problems == ()
    assert folder.library.names() == ("style_change", "plain")


def test_a_registered_workflow_goes_before_a_file_and_uncovers_it(folder: Folder) -> None:
    own = folder.library.definition("plain")
    folder.write("plain.json", graph(5))
    folder.look()
    folder.library.set_own({"plain": own}, ["workflow other: it can't be read"])
    assert folder.color() == 0
    assert folder.library.origin("plain") == "own"
    assert folder.library.problems == ("workflow other: it can't be read",)
    folder.library.set_own({})
    assert folder.color() == 5
