"""The engine's WebSocket sessions against those recorded from ComfyUI."""

import json
import re
from typing import Any

import numpy as np
from PIL import Image


def server_events(session: list[dict[str, Any]]) -> list[Any]:
    """Return what the server of a recorded session said, as a listener would have it."""
    said = [event for event in session if event["dir"] == "server"]
    return [json.loads(event["text"]) if "text" in event else event["binary"] for event in said]


def kind(event: Any) -> str:
    return "binary" if isinstance(event, bytes) else event["type"]


def normalised(value: Any) -> Any:
    """Return ``value`` with what differs from run to run made equal."""
    if isinstance(value, dict):
        return {name: normalised(item) for name, item in value.items()} | {
            name: f"<{name}>"
            for name in ("prompt_id", "timestamp", "filename", "sid", "traceback")
            if name in value
        }
    if isinstance(value, list):
        return [normalised(item) for item in value]
    return value


def shape(value: Any) -> Any:
    """Return the keys and types of ``value``, its node ids and numbers left out."""
    if isinstance(value, bytes):
        return "binary", value[:8]
    if isinstance(value, dict):
        names = {re.sub(r"^\d+$", "<node>", name) for name in value}
        if "<node>" in names:
            return {"<node>": shape(next(iter(value.values())))}
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__.replace("float", "int")


def phases(events: list[Any]) -> list[str]:
    """Return the kinds of messages in order, repeated steps and statuses taken together."""
    kinds = [kind(event) for event in events]
    text = " ".join(kinds)
    text = re.sub(r"(status )+", "status ", text)
    return re.sub(r"(progress_state progress binary )+", "<steps> ", text).split()


def from_steps_on(events: list[Any]) -> list[str]:
    return phases(events)[phases(events).index("<steps>") :]


def trivial(color: int = 4711) -> dict[str, Any]:
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": color},
        },
        "2": {
            "class_type": "SaveImage",
            "inputs": {"filename_prefix": "golden", "images": ["1", 0]},
        },
    }


def stylised(seed: int, side: int = 64, output: str = "SaveImage") -> dict[str, Any]:
    """A graph like the recorded ones: 3 has steps and previews, 8 has none, 9 is the output."""
    saved = {"images": ["8", 0]} | ({"filename_prefix": "s"} if output == "SaveImage" else {})
    return {
        "5": {
            "class_type": "EmptyImage",
            "inputs": {"width": side, "height": side, "batch_size": 1, "color": 99},
        },
        "3": {
            "class_type": "AtelierStylise",
            "inputs": {"image": ["5", 0], "style": "cartoon", "strength": 0.5, "seed": seed},
        },
        "8": {"class_type": "ImageInvert", "inputs": {"image": ["3", 0]}},
        "9": {"class_type": output, "inputs": saved},
    }


async def test_trivial_session_is_comfyuis_message_for_message(engine, golden):
    recorded = golden("trivial")
    listener = await engine.connect("trivial")
    prompt_id = await engine.submit(trivial(), "trivial")
    await listener.until_ended(prompt_id)
    assert [normalised(event) for event in listener.events] == [
        normalised(event) for event in server_events(recorded)
    ]
    await listener.silence()
    _, history = await engine.get(f"/history/{prompt_id}")
    expected = next(iter(recorded[-1]["response"]["body"].values()))
    entry = history[prompt_id]
    assert entry["prompt"][:2] == [0, prompt_id]
    assert entry["prompt"][2:] == expected["prompt"][2:]
    assert normalised(entry["status"]) == normalised(expected["status"])
    assert normalised(entry["outputs"]) == normalised(expected["outputs"])
    assert entry["meta"] == expected["meta"]
    assert entry.keys() == expected.keys()


async def test_failing_session_is_comfyuis(engine, golden):
    recorded = golden("execution_error")
    (engine.root / "input" / "broken.png").write_bytes(b"no picture")
    graph = recorded[0]["request"]["body"]["prompt"]
    listener = await engine.connect("execution_error")
    prompt_id = await engine.submit(graph, "execution_error")
    await listener.until_ended(prompt_id)
    expected = [normalised(event) for event in server_events(recorded)]
    found = [normalised(event) for event in listener.events]
    for events in (expected, found):
        error = next(event for event in events if event["type"] == "execution_error")
        message = error["data"].pop("exception_message")
        assert re.fullmatch(r"cannot identify image file '.*broken.png'\n", message)
    assert found == expected
    _, history = await engine.get(f"/history/{prompt_id}")
    entry, theirs = history[prompt_id], next(iter(recorded[-1]["response"]["body"].values()))
    assert (entry["outputs"], entry["meta"]) == ({}, {})
    assert shape(entry["status"]) == shape(theirs["status"])
    assert [name for name, _ in entry["status"]["messages"]] == [
        name for name, _ in theirs["status"]["messages"]
    ]


async def test_session_with_steps_and_previews_has_comfyuis_order_and_shapes(engine, golden):
    recorded = server_events(golden("text_to_image_steps"))
    await engine.run(stylised(1, side=32))  # so that, as recorded, something is cached
    listener = await engine.connect("steps")
    prompt_id = await engine.submit(stylised(2, side=32), "steps")
    await listener.until_ended(prompt_id)
    ours, theirs = listener.events, recorded
    # Before the steps ComfyUI also ran the nodes that load its model.
    assert phases(ours)[:5] == phases(theirs)[:5]
    assert from_steps_on(ours) == from_steps_on(theirs)
    shapes = [shape(event) for event in theirs]
    for event in ours:
        assert shape(event) in shapes
    steps = [event["data"] for event in ours if kind(event) == "progress"]
    assert [step["value"] for step in steps] == list(range(1, len(steps) + 1))
    assert {step["max"] for step in steps} == {len(steps)}


async def test_client_with_metadata_gets_event_4_previews_as_comfyuis(engine, golden):
    recorded = server_events(golden("text_to_image_previews_metadata"))
    flags = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
    listener = await engine.connect("metadata", flags)
    answer = await listener.until_type("feature_flags")
    assert answer == next(event for event in recorded if kind(event) == "feature_flags")
    prompt_id = await engine.submit(stylised(3), "metadata")
    await listener.until_ended(prompt_id)
    ours = [event for event in listener.events if isinstance(event, bytes)]
    theirs = [event for event in recorded if isinstance(event, bytes)]
    assert ours
    for frame in ours:
        assert frame[:4] == theirs[0][:4] == b"\0\0\0\4"
        metadata, picture = split_metadata(frame)
        assert metadata.keys() == split_metadata(theirs[0])[0].keys()
        assert (metadata["node_id"], metadata["prompt_id"]) == ("3", prompt_id)
        assert metadata["image_type"] == "image/jpeg"
        assert picture[:2] == b"\xff\xd8"


def split_metadata(frame: bytes) -> tuple[dict[str, Any], bytes]:
    end = 8 + int.from_bytes(frame[4:8], "big")
    return json.loads(frame[8:end]), frame[end:]


async def test_flags_count_only_as_the_first_message(engine):
    flags = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
    listener = await engine.connect("late", {"type": "hello"}, flags)
    prompt_id = await engine.submit(stylised(4), "late")
    await listener.until_ended(prompt_id)
    previews = [event for event in listener.events if isinstance(event, bytes)]
    assert previews
    assert {preview[:4] for preview in previews} == {b"\0\0\0\1"}
    assert "feature_flags" not in [kind(event) for event in listener.events]


async def test_cached_session_is_comfyuis(engine, golden):
    recorded = server_events(golden("text_to_image_again_cached"))
    first = await engine.run(stylised(5))
    listener = await engine.connect("again")
    prompt_id = await engine.submit(stylised(5), "again")
    await listener.until_ended(prompt_id)
    ours = listener.events
    assert [kind(event) for event in ours] == [kind(event) for event in recorded]
    cached = next(event for event in ours if kind(event) == "execution_cached")
    assert sorted(cached["data"]["nodes"]) == ["3", "5", "8", "9"]
    state = next(event for event in ours if kind(event) == "progress_state")
    assert state["data"]["nodes"].keys() == {"9"}
    assert shape(state) == shape(
        next(event for event in recorded if kind(event) == "progress_state")
    )
    executed = next(event for event in ours if kind(event) == "executed")
    assert executed["data"]["output"] == first["outputs"]["9"]
    _, history = await engine.get(f"/history/{prompt_id}")
    assert history[prompt_id]["outputs"] == first["outputs"]


async def test_save_image_websocket_session_is_comfyuis(engine, golden):
    recorded = server_events(golden("save_image_websocket"))
    listener = await engine.connect("socket")
    prompt_id = await engine.submit(stylised(6, output="SaveImageWebsocket"), "socket")
    await listener.until_ended(prompt_id)
    assert from_steps_on(listener.events) == from_steps_on(recorded)
    ours = [event for event in listener.events if isinstance(event, bytes)][-1]
    theirs = [event for event in recorded if isinstance(event, bytes)][-1]
    assert ours[:16] == theirs[:16]
    _, history = await engine.get(f"/history/{prompt_id}")
    assert history[prompt_id]["outputs"] == {}


async def test_interrupted_session_is_comfyuis_and_the_next_prompt_runs(engine, golden):
    recorded = golden("interrupted")
    listener = await engine.connect("interrupted")
    first = await engine.submit(stylised(7, side=700), "interrupted")
    second = await engine.submit(trivial(7), "interrupted")
    await listener.until_type("progress")
    _, queue = await engine.get("/queue")
    assert [entry[1] for entry in queue["queue_running"]] == [first]
    assert [entry[1] for entry in queue["queue_pending"]] == [second]
    recorded_queue = next(
        event["response"]["body"]
        for event in recorded
        if event["dir"] == "http" and event["request"]["path"] == "/queue"
    )
    assert shape(queue["queue_running"][0][3:]) == shape(recorded_queue["queue_running"][0][3:])
    assert await engine.post("/interrupt", {"prompt_id": first}) == (200, b"")
    interrupted = await listener.until_type("execution_interrupted")
    expected = next(
        event for event in server_events(recorded) if kind(event) == "execution_interrupted"
    )
    assert interrupted["data"].keys() == expected["data"].keys()
    assert interrupted["data"]["executed"] == ["5"]
    assert interrupted["data"]["node_id"] == "3"
    assert interrupted["data"]["node_type"] == "AtelierStylise"
    await listener.until_ended(first)
    await listener.until_ended(second)
    _, entry = await engine.get(f"/history/{first}")
    theirs = recorded[-2]["response"]["body"]
    assert shape(entry[first]) == shape(next(iter(theirs.values())))
    assert [name for name, _ in entry[first]["status"]["messages"]] == [
        "execution_start",
        "execution_cached",
        "execution_interrupted",
    ]
    _, entry = await engine.get(f"/history/{second}")
    assert entry[second]["status"]["status_str"] == "success"


async def test_interrupt_of_a_waiting_prompt_hits_nothing(engine):
    listener = await engine.connect("i")
    first = await engine.submit(stylised(8), "i")
    second = await engine.submit(trivial(8), "i")
    await engine.post("/interrupt", {"prompt_id": second})
    await listener.until_ended(first)
    await listener.until_ended(second)
    assert "execution_interrupted" not in [kind(event) for event in listener.events]


async def test_global_interrupt_without_a_body_stops_what_runs(engine):
    listener = await engine.connect("i")
    prompt_id = await engine.submit(stylised(9, side=700), "i")
    await listener.until_type("progress")
    async with engine.http.post(f"{engine.url}/interrupt") as response:
        assert response.status == 200
    await listener.until_type("execution_interrupted")
    await listener.until_ended(prompt_id)


async def test_two_queued_prompts_run_one_after_the_other(engine, golden):
    recorded = server_events(golden("two_prompts_queued"))
    listener = await engine.connect("two")
    ids = [await engine.submit(stylised(seed), "two") for seed in (10, 11)]
    for prompt_id in ids:
        await listener.until_ended(prompt_id)

    def marks(events: list[Any]) -> list[str]:
        wanted = ("execution_start", "execution_cached", "executed", "execution_success")
        return [kind(event) for event in events if kind(event) in wanted]

    assert marks(listener.events) == marks(recorded)


async def test_messages_go_to_the_client_that_submitted_only(engine):
    mine, other = await engine.connect("mine"), await engine.connect("other")
    prompt_id = await engine.submit(stylised(12), "mine")
    await mine.until_ended(prompt_id)
    await engine.submit(trivial(12))
    marker = await engine.submit(trivial(13), "other")
    await other.until_ended(marker)
    about = {event["data"].get("prompt_id") for event in other.events if kind(event) != "status"}
    assert about == {marker}
    assert len([event for event in other.events if kind(event) == "status"]) >= 9


async def test_reconnect_is_told_the_running_node_and_goes_on_receiving(engine):
    first = await engine.connect("back")
    prompt_id = await engine.submit(stylised(13, side=700), "back")
    await first.until_type("progress")
    await first.close()
    again = await engine.connect("back")
    greeting = await again.until_type("status")
    assert greeting["data"]["sid"] == "back"
    assert await again.next() == {"type": "executing", "data": {"node": "3"}}
    await again.until_ended(prompt_id)
    assert "executed" in [kind(event) for event in again.events]


async def test_newer_socket_of_a_client_takes_over_and_outlives_the_older(engine):
    older, newer = await engine.connect("same"), await engine.connect("same")
    await older.close()
    prompt_id = await engine.submit(trivial(14), "same")
    await newer.until_ended(prompt_id)


async def test_changed_file_is_loaded_again_and_an_unchanged_one_is_not(engine):
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "c", "images": ["1", 0]}},
    }
    path = engine.root / "input" / "a.png"
    cached = []
    for color in ("red", "red", "blue"):
        Image.new("RGB", (4, 4), color).save(path)
        entry = await engine.run(graph)
        messages = dict(entry["status"]["messages"])
        cached.append(messages["execution_cached"]["nodes"])
        (file,) = entry["outputs"]["2"]["images"]
        _, data = await engine.get("/view", **file)
        saved = engine.root / "output" / file["filename"]
        assert data == saved.read_bytes()
        with Image.open(saved) as picture:
            assert np.array_equal(np.asarray(picture), np.asarray(Image.new("RGB", (4, 4), color)))
    assert cached == [[], ["1", "2"], []]


async def test_freeing_memory_forgets_what_was_cached(engine):
    await engine.run(trivial(15))
    assert (await engine.post("/free", {"free_memory": True, "unload_models": True}))[0] == 200
    entry = await engine.run(trivial(15))
    assert dict(entry["status"]["messages"])["execution_cached"]["nodes"] == []


async def test_two_nodes_that_do_the_same_run_once(engine):
    graph = trivial(16)
    graph["3"] = graph["2"]
    listener = await engine.connect("twin")
    prompt_id = await engine.submit(graph, "twin")
    await listener.until_ended(prompt_id)
    executed = [event["data"] for event in listener.events if kind(event) == "executed"]
    assert [data["node"] for data in executed] == ["2", "3"]
    assert executed[0]["output"] == executed[1]["output"]
    assert len(list((engine.root / "output").iterdir())) == 1


async def test_memory_error_of_a_node_fails_the_prompt_and_not_the_engine(engine):
    graph = trivial(17)
    graph["1"]["inputs"] |= {"width": 16384, "height": 16384, "batch_size": 4096}
    entry = await engine.run(graph)
    assert entry["status"]["status_str"] == "error"
    error = dict(entry["status"]["messages"])["execution_error"]
    assert error["exception_type"] == "MemoryError"
    assert (await engine.run(trivial(18)))["status"]["completed"]
