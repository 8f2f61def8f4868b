import numpy as np

from atelier.engine.cache import Result, ResultCache, signatures


def result(size_bytes: int) -> Result:
    return Result((np.zeros(size_bytes - 1024, np.uint8),), None)


def test_least_recently_used_results_go_when_the_bytes_run_out():
    cache = ResultCache(10_000)
    for name in ("a", "b", "c"):
        cache.put(name, result(3_000))
    assert cache.get("a") is not None
    cache.put("d", result(3_000))
    assert cache.get("b") is None
    assert [cache.get(name) is not None for name in ("a", "c", "d")] == [True] * 3
    assert cache.size_bytes == 9_000


def test_result_larger_than_the_cache_is_not_kept_and_drops_nothing():
    cache = ResultCache(10_000)
    cache.put("a", result(2_000))
    cache.put("big", result(20_000))
    assert cache.get("big") is None
    assert cache.get("a") is not None


def test_replaced_result_is_not_counted_twice():
    cache = ResultCache(10_000)
    cache.put("a", result(2_000))
    cache.put("a", result(4_000))
    assert cache.size_bytes == 4_000
    cache.clear()
    assert (cache.size_bytes, cache.get("a")) == (0, None)


def graph(color: int = 1, image: str = "a.png") -> dict:
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 1, "color": color}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "LoadImage", "inputs": {"image": image}},
        "4": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["3", 0]}},
    }


def test_signature_changes_with_constants_upstream(folders):
    before, after = signatures(graph(1), folders), signatures(graph(2), folders)
    assert before["1"] != after["1"]
    assert before["2"] != after["2"]


def test_signature_does_not_depend_on_node_ids(folders):
    renamed = {
        "x": graph()["1"],
        "y": {"class_type": "ImageInvert", "inputs": {"image": ["x", 0]}},
    }
    assert signatures(graph(), folders)["2"] == signatures(renamed, folders)["y"]


def test_signature_of_a_loaded_file_follows_its_content(folders):
    path = folders.root / "input" / "a.png"
    path.write_bytes(b"one")
    first = signatures(graph(), folders)["3"]
    assert signatures(graph(), folders)["3"] == first
    path.write_bytes(b"two")
    assert signatures(graph(), folders)["3"] != first


def test_signature_of_an_absent_file_never_comes_again(folders):
    assert signatures(graph(), folders)["3"] != signatures(graph(), folders)["3"]


def test_save_image_websocket_is_never_the_same(folders):
    (folders.root / "input" / "a.png").write_bytes(b"one")
    assert signatures(graph(), folders)["4"] != signatures(graph(), folders)["4"]


def test_nodes_on_a_cycle_get_signatures_too(folders):
    cyclic = {
        "1": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
    }
    assert signatures(cyclic, folders).keys() == {"1", "2"}
