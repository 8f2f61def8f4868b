import json
import random
from pathlib import Path
from typing import Any

import pytest

from atelier.errors import ConfigurationError
from atelier.workflows.bind import bind, complete
from atelier.workflows.check import check
from atelier.workflows.library import Library, LibraryInvalid, WorkflowUnknown, input_schema
from atelier.workflows.manifest import in_language

PRESETS = {
    "clay": "Clay Style, lovely, 3d, cute",
    "anime": "Anime Style, beautiful, detailed",
    "realistic": "Realistic Style, high quality, detailed",
    "cartoon": "Cartoon Style, colorful, fun",
    "oil_painting": "Oil Painting Style, artistic, classical",
}

STYLE = {"title": "Pixel art", "prompt": "Pixel Art, 16 bit", "classic": {"look": "cartoon"}}
GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"color": 0}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
}
MANIFEST: dict[str, Any] = {
    "title": "Plain colour",
    "inputs": [{"name": "colour", "type": "integer", "default": 3, "min": 0}],
    "variants": [
        {
            "name": "only",
            "kind": "classic",
            "graph": "graph.json",
            "targets": {"colour": [{"node": "1", "input": "color"}]},
            "outputs": [{"node": "2"}],
        }
    ],
}


def write(file: Path, body: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(body if isinstance(body, str) else json.dumps(body))


def test_the_five_styles_have_their_presets_in_order(library: Library) -> None:
    assert {name: style.prompt for name, style in library.styles().items()} == PRESETS
    assert list(library.styles()) == list(PRESETS)
    assert all(style.negative for style in library.styles().values())


def test_an_unknown_workflow_is_answered_with_those_there_are(library: Library) -> None:
    with pytest.raises(WorkflowUnknown) as caught:
        library.get("style_chnage")
    assert caught.value.data["allowed"][0] == "style_change"
    assert "style_change" in caught.value.hint


@pytest.mark.parametrize("suffix", ["json", "toml"])
def test_a_style_is_added_by_a_file_alone(tmp_path: Path, classic_info: Any, suffix: str) -> None:
    if suffix == "json":
        write(tmp_path / "styles" / "pixel_art.json", STYLE)
    else:
        toml = 'title = "Pixel art"\nprompt = "Pixel Art, 16 bit"\n[classic]\nlook = "cartoon"\n'
        write(tmp_path / "styles" / "pixel_art.toml", toml)
    library = Library([tmp_path])
    assert list(library.styles()) == [*PRESETS, "pixel_art"]
    workflow = library.get("style_change")
    assert "pixel_art" in input_schema(workflow)["properties"]["style"]["enum"]
    inputs = complete(
        workflow.manifest, {"image": "asset:1", "style": "pixel_art"}, rng=random.Random(1)
    )
    inputs |= {"image": "example.png", "model": "m.safetensors"}
    diffusion = bind(workflow.graphs["diffusion"], workflow.manifest, "diffusion", inputs)
    assert diffusion["4"]["inputs"]["text"] == "Pixel Art, 16 bit"
    assert diffusion["5"]["inputs"]["text"] == ""
    classic = bind(workflow.graphs["classic"], workflow.manifest, "classic", inputs)
    assert classic["2"]["inputs"]["style"] == "cartoon"
    assert check(classic, classic_info) == []
    assert workflow.version != Library().get("style_change").version


def test_a_later_folder_overrides_by_name(tmp_path: Path) -> None:
    write(tmp_path / "a" / "styles" / "clay.json", {**STYLE, "prompt": "first"})
    write(tmp_path / "b" / "styles" / "clay.json", {**STYLE, "prompt": "second"})
    library = Library([tmp_path / "a", tmp_path / "b"])
    assert library.styles()["clay"].prompt == "second"
    assert len(library.styles()) == 5


def test_a_workflow_is_added_by_a_folder_alone(tmp_path: Path) -> None:
    write(tmp_path / "plain" / "manifest.json", MANIFEST)
    write(tmp_path / "plain" / "graph.json", GRAPH)
    write(tmp_path / "notes" / "readme.txt", "no manifest: no workflow")
    write(tmp_path / "readme.txt", "not a folder")
    library = Library([tmp_path])
    assert library.names() == (*Library().names(), "plain")
    workflow = library.get("plain")
    inputs = complete(workflow.manifest, {"colour": 9}, rng=random.Random(1))
    graph = bind(workflow.graphs["only"], workflow.manifest, "only", inputs)
    assert graph["1"]["inputs"]["color"] == 9


def test_the_shipped_workflows_can_be_left_out(tmp_path: Path) -> None:
    assert Library([tmp_path], builtin=False).names() == ()


def test_the_version_changes_with_the_graph_alone(tmp_path: Path) -> None:
    versions = set()
    for prefix in ("a", "b", "b"):
        write(tmp_path / "plain" / "manifest.json", MANIFEST)
        node = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "prefix": prefix}}
        write(tmp_path / "plain" / "graph.json", {**GRAPH, "2": node})
        versions.add(Library([tmp_path]).get("plain").version)
    assert len(versions) == 2


def changed(**fields: Any) -> dict[str, Any]:
    return {**MANIFEST, **fields}


def variant(**fields: Any) -> dict[str, Any]:
    return changed(variants=[{**MANIFEST["variants"][0], **fields}])


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (changed(title=None), "manifest.json: title"),
        (changed(variants=[]), "variants"),
        (changed(surprise=1), "surprise"),
        (changed(name="other"), "its name 'other' must be 'plain'"),
        (changed(inputs=[{"name": "a", "type": "colour"}]), "inputs.0.type"),
        (changed(inputs=[{"name": "a", "type": "choice"}]), "needs `choices`"),
        (changed(inputs=[{"name": "a", "type": "model"}]), "needs a `folder`"),
        (changed(inputs=MANIFEST["inputs"] * 2), "two inputs are named colour"),
        (changed(variants=MANIFEST["variants"] * 2), "two variants are named only"),
        (
            changed(inputs=[{"name": "colour", "type": "integer", "default": -1, "min": 0}]),
            "the default of colour must be at least 0",
        ),
        (variant(graph="absent.json"), "no file absent.json beside the manifest"),
        (variant(graph="../plain/graph.json"), "beside the manifest"),
        (variant(graph="graph.yaml"), "no file graph.yaml"),
        (variant(targets={"size": []}), "there are targets for size, which is no input"),
        (variant(targets={"colour": [{"node": "7", "input": "color"}]}), "node 7"),
        (variant(targets={"colour": [{"node": "1", "input": "hue"}]}), "hue of node 1"),
        (
            variant(targets={"colour": [{"node": "1", "input": "color", "template": "{hue}"}]}),
            "names hue, which is no input",
        ),
        (
            variant(
                targets={"colour": [{"node": "1", "input": "color", "template": "a", "map": {}}]}
            ),
            "not both",
        ),
        (variant(outputs=[{"node": "7"}]), "node 7 is an output"),
        ("[1]", "it is not an object"),
        ("{", "manifest.json: "),
    ],
)
def test_a_faulty_workflow_is_refused_naming_the_place(
    tmp_path: Path, manifest: Any, said: str
) -> None:
    write(tmp_path / "plain" / "manifest.json", manifest)
    write(tmp_path / "plain" / "graph.json", GRAPH)
    with pytest.raises(LibraryInvalid) as caught:
        Library([tmp_path])
    assert said in caught.value.message
    assert "plain" in caught.value.message


def test_all_faulty_files_are_named_at_once(tmp_path: Path) -> None:
    write(tmp_path / "styles" / "a.json", {"title": "A"})
    write(tmp_path / "styles" / "b.toml", "title =")
    write(tmp_path / "plain" / "manifest.json", MANIFEST)
    write(tmp_path / "plain" / "graph.json", {"nodes": [], "links": []})
    with pytest.raises(LibraryInvalid) as caught:
        Library([tmp_path, tmp_path / "absent"])
    assert isinstance(caught.value, ConfigurationError)
    for file in ("a.json: prompt", "a.json: classic", "b.toml", "graph.json", "absent is not a"):
        assert file in caught.value.message


def test_a_style_without_a_base_look_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "styles" / "a.json", {**STYLE, "classic": {}})
    with pytest.raises(LibraryInvalid, match=r"classic\.look"):
        Library([tmp_path])


def test_a_template_must_find_its_part_in_every_choice(tmp_path: Path) -> None:
    choice = {"value": "a", "data": {"colour": 1}}
    inputs = [{"name": "colour", "type": "choice", "choices": [choice, "b"]}]
    place = {"node": "1", "input": "color", "template": "{colour.colour}"}
    manifest = variant(targets={"colour": [place]}) | {"inputs": inputs}
    write(tmp_path / "plain" / "manifest.json", manifest)
    write(tmp_path / "plain" / "graph.json", GRAPH)
    with pytest.raises(LibraryInvalid, match="which the choice b does not have"):
        Library([tmp_path])


@pytest.mark.parametrize(
    ("language", "title"),
    [("en", "Anime"), ("zh-Hans", "动漫"), ("zh-Hant", "動漫"), ("fr", "Anime")],
)
def test_texts_are_told_in_the_language_asked_for(
    library: Library, language: str, title: str
) -> None:
    assert in_language(library.styles()["anime"].title, language) == title
