"""The engine's HTTP answers against those recorded from ComfyUI, and against bad input."""

import io
import json
from typing import Any

import aiohttp
import numpy as np
import pytest
from PIL import Image

from atelier.engine.nodes import NODES


def trivial(color: int = 1) -> dict[str, Any]:
    size = {"width": 8, "height": 8, "batch_size": 1}
    return {
        "1": {"class_type": "EmptyImage", "inputs": {**size, "color": color}},
        "2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "h", "images": ["1", 0]}},
    }


def without_traceback(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_traceback(v) for name, v in value.items() if name != "traceback"}
    return [without_traceback(item) for item in value] if isinstance(value, list) else value


VALIDATION_CASES = (
    "missing_node_type",
    "no_outputs",
    "required_input_missing",
    "value_bigger_than_max",
    "bad_linked_input",
    "link_to_absent_node",
    "invalid_input_type",
    "image_file_absent",
    "cycle",
    "no_class_type",
    "empty_prompt",
    "one_good_one_bad_output",
)


@pytest.mark.parametrize("name", VALIDATION_CASES)
async def test_wrong_graph_gets_comfyuis_answer(engine, golden_answers, name):
    case = golden_answers("validation_answers")[name]
    expected = case["response"]
    status, body = await engine.post("/prompt", {"prompt": case["prompt"]})
    assert status == expected["status"]
    for changing in ("prompt_id", "number"):
        assert (changing in body) == (changing in expected["body"])
        body.pop(changing, None)
    theirs = {k: v for k, v in expected["body"].items() if k not in ("prompt_id", "number")}
    assert without_traceback(body) == without_traceback(theirs)


async def test_missing_prompt_gets_comfyuis_answer(engine, golden_answers):
    expected = golden_answers("validation_answers")["no_prompt_key"]["response"]
    assert await engine.post("/prompt", {"client_id": "x"}) == (
        expected["status"],
        expected["body"],
    )


async def test_graph_with_a_model_loader_is_refused_as_a_missing_node(engine, golden_answers):
    graph = golden_answers("validation_answers")["value_not_in_list"]["prompt"]
    status, body = await engine.post("/prompt", {"prompt": graph})
    assert status == 400
    assert body["error"]["type"] == "invalid_prompt"
    assert body["error"]["message"] == (
        "Cannot execute because node CheckpointLoaderSimple does not exist."
    )
    assert body["node_errors"] == {}


@pytest.mark.parametrize(
    ("change", "kind", "details"),
    [
        ({"style": "watercolour"}, "value_not_in_list", "style: 'watercolour' not in ["),
        ({"strength": 7}, "value_bigger_than_max", "strength"),
        ({"strength": -0.1}, "value_smaller_than_min", "strength"),
        ({"strength": "much"}, "invalid_input_type", "strength, much, could not convert"),
        ({"seed": 1e400}, "invalid_input_type", "seed, inf, cannot convert float infinity"),
        ({"seed": 10**30}, "value_bigger_than_max", "seed"),
        ({"image": ["1", 0, 0]}, "bad_linked_input", "image"),
        ({"style": ["1", 0]}, "return_type_mismatch", "style, received_type(IMAGE) mismatch"),
        ({"image": ["1", 5]}, "exception_during_inner_validation", "tuple index out of range"),
    ],
)
async def test_wrong_input_of_a_node_is_named(engine, change, kind, details):
    inputs = {"image": ["1", 0], "style": "clay", "strength": 0.5, "seed": 1, **change}
    graph = trivial() | {"3": {"class_type": "AtelierStylise", "inputs": inputs}}
    graph["2"]["inputs"]["images"] = ["3", 0]
    body = json.dumps({"prompt": graph}).encode()
    async with engine.http.post(f"{engine.url}/prompt", data=body) as response:
        assert response.status == 400
        answer = await response.json()
    (entry,) = answer["node_errors"].values()
    assert entry["dependent_outputs"] == ["2"]
    (error,) = entry["errors"]
    assert error["type"] == kind
    assert error["details"].startswith(details)


async def test_all_errors_of_a_node_are_told_at_once(engine):
    graph = trivial()
    graph["1"]["inputs"] = {"width": 0, "height": "x", "color": -1}
    _, body = await engine.post("/prompt", {"prompt": graph})
    kinds = [error["type"] for error in body["node_errors"]["1"]["errors"]]
    assert kinds == [
        "value_smaller_than_min",
        "invalid_input_type",
        "required_input_missing",
        "value_smaller_than_min",
    ]


async def test_only_the_good_output_of_a_half_wrong_graph_runs(engine):
    graph = trivial() | {
        "3": {"class_type": "SaveImage", "inputs": {"filename_prefix": "e", "images": ["9", 0]}}
    }
    entry = await engine.run(graph)
    assert entry["outputs"].keys() == {"2"}
    assert entry["prompt"][4] == ["2"]


async def test_only_the_wanted_outputs_run(engine):
    graph = trivial() | {"3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}
    entry = await engine.run(graph, partial_execution_targets=["3"])
    assert entry["outputs"].keys() == {"3"}
    status, _ = await engine.post("/prompt", {"prompt": graph, "partial_execution_targets": []})
    assert status == 400


async def test_prompt_id_of_the_client_is_kept_and_posting_it_twice_runs_it_twice(engine):
    listener = await engine.connect("twice")
    for color in (2, 3):
        assert await engine.submit(trivial(color), "twice", prompt_id="mine") == "mine"
    for _ in range(2):
        await listener.until_ended("mine")
    assert len(list((engine.root / "output").iterdir())) == 2


async def test_number_and_front_decide_the_place_in_the_queue(engine):
    slow = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 600, "height": 600, "batch_size": 1, "color": 5},
        },
        "2": {
            "class_type": "AtelierStylise",
            "inputs": {"image": ["1", 0], "style": "clay", "strength": 0.5, "seed": 1},
        },
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }
    listener = await engine.connect("place")
    first = await engine.submit(slow, "place")
    await listener.until_type("progress")
    await engine.submit(trivial(4), prompt_id="late", number=9)
    await engine.submit(trivial(5), prompt_id="usual")
    await engine.submit(trivial(6), prompt_id="front", front=True)
    await engine.submit(trivial(7), prompt_id="between", number=0.5)
    _, queue = await engine.get("/queue")
    assert [entry[1] for entry in queue["queue_pending"]] == ["front", "between", "usual", "late"]
    await engine.post("/queue", {"delete": ["usual", "absent"]})
    await engine.post("/queue", {"clear": True})
    _, queue = await engine.get("/queue")
    assert queue["queue_pending"] == []
    await engine.post("/interrupt", {})
    await listener.until_ended(first)


@pytest.mark.parametrize("prefix", ["", "/api"])
@pytest.mark.parametrize(
    "path",
    [
        "/features",
        "/queue",
        "/prompt",
        "/models",
        "/embeddings",
        "/object_info/EmptyImage",
        "/object_info/NoSuchNode",
        "/history/no-such-id",
    ],
)
async def test_get_is_answered_as_by_comfyui(engine, golden_answers, prefix, path):
    expected = golden_answers("http_answers")[path]
    async with engine.http.get(f"{engine.url}{prefix}{path}") as response:
        assert response.status == expected["status"]
        assert response.headers["Content-Type"] == expected["headers"]["Content-Type"]
        assert await response.json() == expected["body"]


async def test_system_stats_have_comfyuis_keys(engine, golden_answers):
    expected = golden_answers("http_answers")["/system_stats"]["body"]
    _, stats = await engine.get("/system_stats")
    assert stats["system"].keys() == expected["system"].keys()
    assert stats["system"]["comfyui_version"] == expected["system"]["comfyui_version"]
    assert [device.keys() for device in stats["devices"]] == [expected["devices"][0].keys()]
    assert stats["devices"][0]["type"] == "cpu"
    assert stats["system"]["ram_total"] > stats["system"]["ram_free"] > 0


async def test_there_are_no_models(engine):
    assert await engine.get("/models/checkpoints") == (200, [])
    assert (await engine.get("/models/absent"))[0] == 404
    assert await engine.get("/extensions") == (200, [])


async def test_object_info_lists_every_node_and_the_uploaded_pictures(engine):
    await engine.upload(png("red"), "new.png")
    _, info = await engine.get("/object_info")
    assert info.keys() == NODES.keys()
    assert info["LoadImage"]["input"]["required"]["image"][0] == ["new.png"]


async def test_history_pages_and_is_deleted(engine):
    ids = ["a", "b", "c"]
    for color, prompt_id in enumerate(ids):
        await engine.run(trivial(color), prompt_id=prompt_id)
    assert list((await engine.get("/history"))[1]) == ids
    assert list((await engine.get("/history", max_items=2))[1]) == ["b", "c"]
    assert list((await engine.get("/history", max_items=1, offset=0))[1]) == ["a"]
    assert (await engine.get("/history", max_items="many"))[0] == 400
    await engine.post("/history", {"delete": ["b"]})
    assert list((await engine.get("/history"))[1]) == ["a", "c"]
    await engine.post("/history", {"clear": True})
    assert await engine.get("/history") == (200, {})


def png(color: str | tuple[int, ...], mode: str = "RGB", **options: Any) -> bytes:
    target = io.BytesIO()
    Image.new(mode, (6, 4), color).save(target, "PNG", **options)
    return target.getvalue()


async def test_upload_is_answered_as_by_comfyui(engine, golden_answers):
    expected = golden_answers("http_answers")["upload"]
    answer = await engine.upload(b"no picture", "broken.png")
    assert answer == (expected["status"], expected["body"])


async def test_same_content_keeps_its_name_and_other_content_gets_another(engine):
    names = [
        (await engine.upload(png(color), "a.png"))[1]["name"]
        for color in ("red", "red", "blue", "lime", "blue")
    ]
    assert names == ["a.png", "a.png", "a (1).png", "a (2).png", "a (1).png"]
    _, answer = await engine.upload(png("white"), "a.png", overwrite="true")
    assert answer["name"] == "a.png"
    assert (engine.root / "input" / "a.png").read_bytes() == png("white")


async def test_upload_goes_to_the_wanted_folder(engine):
    status, answer = await engine.upload(png("red"), "a.png", subfolder="x/y", type="temp")
    assert (status, answer) == (200, {"name": "a.png", "subfolder": "x/y", "type": "temp"})
    assert (engine.root / "temp" / "x" / "y" / "a.png").is_file()


@pytest.mark.parametrize(
    ("filename", "fields"),
    [
        ("../a.png", {}),
        ("..", {}),
        ("x/a.png", {}),
        ("/etc/a.png", {}),
        ("a.png", {"subfolder": "../output"}),
        ("a.png", {"subfolder": "/etc"}),
        ("a.png", {"type": "models"}),
        ("x" * 400 + ".png", {}),
    ],
)
async def test_upload_outside_the_folders_is_refused(engine, filename, fields):
    before = sorted(engine.root.rglob("*"))
    status, _ = await engine.upload(png("red"), filename, **fields)
    assert status == 400
    assert sorted(engine.root.rglob("*")) == before


async def test_upload_without_a_file_is_refused(engine):
    assert (await engine.post("/upload/image", {"image": "a.png"}))[0] == 400
    form = aiohttp.FormData({"image": "text"})
    assert (await engine.post("/upload/image", data=form))[0] == 400


async def test_upload_of_a_mask_puts_its_alpha_on_the_original(engine):
    await engine.upload(png((10, 20, 30)), "photo.png")
    form = aiohttp.FormData(
        {"original_ref": json.dumps({"filename": "photo.png", "type": "input"})}
    )
    form.add_field("image", png((0, 0, 0, 77), "RGBA"), filename="masked.png")
    status, answer = await engine.post("/upload/mask", data=form)
    assert (status, answer["name"]) == (200, "masked.png")
    with Image.open(engine.root / "input" / "masked.png") as picture:
        assert picture.getpixel((0, 0)) == (10, 20, 30, 77)


@pytest.mark.parametrize(
    "reference", ["", "[]", "{}", '{"filename": "../x.png"}', '{"filename": "absent.png"}']
)
async def test_mask_for_no_file_is_refused(engine, reference):
    form = aiohttp.FormData({"original_ref": reference})
    form.add_field("image", png("red"), filename="m.png")
    assert (await engine.post("/upload/mask", data=form))[0] == 400


async def test_view_gives_files_with_their_type_and_ranges(engine):
    await engine.upload(png("red"), "a.png")
    query = {"filename": "a.png", "type": "input"}
    async with engine.http.get(f"{engine.url}/view", params=query) as response:
        assert response.headers["Content-Type"] == "image/png"
        assert response.headers["Content-Disposition"] == 'filename="a.png"'
        assert await response.read() == png("red")
    part = {"Range": "bytes=1-3"}
    async with engine.http.get(f"{engine.url}/view", params=query, headers=part) as response:
        assert (response.status, await response.read()) == (206, b"PNG")
    assert (await engine.get("/view", filename="a.png [input]"))[1] == png("red")


async def test_view_never_shows_a_page_that_a_browser_would_run(engine):
    await engine.upload(b"<script>", "a.html")
    query = {"filename": "a.html", "type": "input"}
    async with engine.http.get(f"{engine.url}/view", params=query) as response:
        assert response.headers["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("query", "kind", "mode"),
    [
        ({"preview": "webp;50"}, "WEBP", "RGBA"),
        ({"preview": "jpeg"}, "JPEG", "RGB"),
        ({"preview": "gif;x"}, "WEBP", "RGBA"),
        ({"preview": "jpeg;80", "channel": "rgba"}, "WEBP", "RGBA"),
        ({"preview": "webp", "channel": "rgb"}, "WEBP", "RGB"),
        ({"channel": "rgb"}, "PNG", "RGB"),
        ({"channel": "a"}, "PNG", "RGBA"),
    ],
)
async def test_view_converts(engine, query, kind, mode):
    await engine.upload(png((9, 9, 9, 77), "RGBA"), "a.png")
    status, data = await engine.get("/view", filename="a.png", type="input", **query)
    assert status == 200
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.mode, picture.size) == (kind, mode, (6, 4))
        if query == {"channel": "a"}:
            assert np.asarray(picture)[0, 0].tolist() == [0, 0, 0, 77]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({}, 404),
        ({"filename": ""}, 400),
        ({"filename": "absent.png"}, 404),
        ({"filename": "../input/a.png"}, 400),
        ({"filename": "/etc/passwd"}, 400),
        ({"filename": "a.png", "type": "models"}, 400),
        ({"filename": "a.png", "subfolder": "../input"}, 403),
        ({"filename": "a.png", "subfolder": "/etc"}, 403),
        ({"filename": "a\0.png"}, 404),
        ({"filename": "x" * 5000}, 404),
        ({"filename": "text.png", "type": "input", "preview": "webp"}, 400),
    ],
)
async def test_view_of_what_is_not_there_is_refused(engine, query, status):
    await engine.upload(png("red"), "a.png")
    await engine.upload(b"text", "text.png")
    assert (await engine.get("/view", **query))[0] == status


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"prompt": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"prompt": null}',
        b'{"prompt": []}',
        b'{"prompt": {"1": 5}}',
        b'{"prompt": {"1": {"class_type": ["x"]}}}',
        b'{"prompt": {"1": {"class_type": "SaveImage"}}}',
        b'{"prompt": {"1": {"class_type": "SaveImage", "inputs": [1]}}}',
        b'{"prompt": {"1": {"class_type": "SaveImage", "inputs": {"images": [[], 0]}}}}',
        b'{"prompt": {}, "number": "x"}',
        b'{"prompt": {}, "number": NaN}',
        b'{"prompt": {}, "number": 1' + b"0" * 5000 + b"}",
        b'{"prompt": {}, "extra_data": 5}',
        b'{"prompt": {}, "partial_execution_targets": 5}',
    ],
)
async def test_hostile_prompt_is_answered_with_400(engine, body):
    async with engine.http.post(f"{engine.url}/prompt", data=body) as response:
        assert response.status == 400
        assert {"error", "node_errors"} == (await response.json()).keys()


@pytest.mark.parametrize("path", ["/queue", "/history", "/free", "/interrupt"])
@pytest.mark.parametrize("body", [b"{", b"5", b'{"delete": 5}', b'{"delete": [[], {}]}'])
async def test_hostile_command_breaks_nothing(engine, path, body):
    async with engine.http.post(f"{engine.url}{path}", data=body) as response:
        assert response.status in (200, 400)
    assert (await engine.run(trivial()))["status"]["completed"]


async def test_integers_of_any_size_are_told_back(engine):
    graph = {"1": {"class_type": "PreviewAny", "inputs": {"source": 10**400}}}
    body = json.dumps({"prompt": graph, "client_id": "big", "prompt_id": "big"}).encode()
    listener = await engine.connect("big")
    async with engine.http.post(f"{engine.url}/prompt", data=body) as response:
        assert response.status == 200
    await listener.until_ended("big")
    _, history = await engine.get("/history/big")
    assert history["big"]["prompt"][2]["1"]["inputs"]["source"] == 10**400
    assert history["big"]["outputs"]["1"]["text"] == [str(10**400)]


async def test_lone_surrogates_in_names_break_nothing(engine):
    graph = trivial()
    graph["2"]["inputs"]["filename_prefix"] = "\ud800"
    listener = await engine.connect("odd")
    await engine.submit(graph, "odd", prompt_id="odd")
    await listener.until_ended("odd")
    assert (await engine.run(trivial(3)))["status"]["completed"]


async def test_chain_of_a_thousand_nodes_runs(engine):
    graph = {"0": trivial()["1"]} | {
        str(n): {"class_type": "ImageInvert", "inputs": {"image": [str(n - 1), 0]}}
        for n in range(1, 1000)
    }
    graph["end"] = {"class_type": "PreviewImage", "inputs": {"images": ["999", 0]}}
    # Without a client: each progress_state would name all the nodes so far.
    watcher = await engine.connect("somebody else")
    await engine.submit(graph, prompt_id="long")
    ended = {"status": {"exec_info": {"queue_remaining": 0}}}
    await watcher.until(lambda event: event["data"] == ended)
    _, history = await engine.get("/history/long")
    assert history["long"]["status"]["completed"]


async def test_graph_whose_unneeded_part_is_broken_runs(engine):
    graph = trivial() | {
        "a": {"class_type": "ImageInvert", "inputs": {"image": ["b", 0]}},
        "b": {"class_type": "ImageInvert", "inputs": {"image": ["a", 0]}},
        "c": {"class_type": "LoadImage", "inputs": {"image": 5}},
        "d": {"class_type": "LoadImage"},
    }
    assert (await engine.run(graph))["status"]["completed"]


async def test_page_from_elsewhere_can_not_use_an_engine_on_the_visitors_machine(engine):
    for origin, status in (("http://elsewhere.example", 403), (engine.url, 200)):
        headers = {"Origin": origin}
        async with engine.http.get(f"{engine.url}/queue", headers=headers) as response:
            assert response.status == status


@pytest.mark.parametrize("engine_options", [{"max_history": 2}])
async def test_history_is_bounded(engine):
    for color in range(4):
        await engine.run(trivial(color), prompt_id=str(color))
    assert list((await engine.get("/history"))[1]) == ["2", "3"]


async def test_clip_is_saved_as_video_and_its_frames_are_there_for_any_other_node(engine):
    graph = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 48, "height": 32, "batch_size": 1, "color": 255},
        },
        "2": {
            "class_type": "AtelierMotion",
            "inputs": {
                "image": ["1", 0],
                "motion": "zoom_in",
                "seconds": 0.5,
                "fps": 8.0,
                "amount": 0.5,
                "max_size": 64,
            },
        },
        "3": {"class_type": "CreateVideo", "inputs": {"images": ["2", 0], "fps": 8.0}},
        "4": {
            "class_type": "SaveVideo",
            "inputs": {
                "video": ["3", 0],
                "filename_prefix": "a",
                "format": "auto",
                "codec": "auto",
            },
        },
        "5": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "b"}},
    }
    entry = await engine.run(graph)
    assert entry["status"]["status_str"] == "success"
    video = {"filename": "a_00001_.mp4", "subfolder": "", "type": "output"}
    assert entry["outputs"]["4"] == {"images": [video], "animated": [True]}
    assert len(entry["outputs"]["6"]["images"]) == 4
