import pytest

from atelier.engine.graph import Plan, sorted_by_need


def node(class_type: str, **inputs):
    return {"class_type": class_type, "inputs": inputs}


EMPTY = node("EmptyImage", width=1, height=1, batch_size=1, color=0)
DIAMOND = {
    "end": node("SaveImage", images=["join", 0]),
    "join": node("ImageBatch", image1=["left", 0], image2=["right", 0]),
    "left": node("ImageInvert", image=["source", 0]),
    "right": node("ImageInvert", image=["source", 0]),
    "source": EMPTY,
}


def run(plan: Plan) -> list[str]:
    order = []
    while (node_id := plan.next()) is not None:
        order.append(node_id)
        plan.finish(node_id)
    return order


def test_needed_nodes_come_first():
    order, on_cycle = sorted_by_need(DIAMOND, ["end"])
    assert order == ["source", "left", "right", "join", "end"]
    assert on_cycle == set()


def test_all_nodes_of_a_cycle_are_found():
    graph = {
        "a": node("ImageInvert", image=["c", 0]),
        "b": node("ImageInvert", image=["a", 0]),
        "c": node("ImageInvert", image=["b", 0]),
        "out": node("SaveImage", images=["a", 0]),
    }
    assert sorted_by_need(graph, ["out"])[1] == {"a", "b", "c"}


def test_chain_longer_than_the_stack_is_sorted():
    graph = {"0": EMPTY} | {
        str(n): node("ImageInvert", image=[str(n - 1), 0]) for n in range(1, 5000)
    }
    assert sorted_by_need(graph, ["4999"])[0] == [str(n) for n in range(5000)]


def test_plan_runs_each_node_once_after_what_it_needs():
    order = run(Plan(DIAMOND, ["end"], lambda _: False))
    assert sorted(order) == sorted(DIAMOND)
    assert order[0] == "source"
    assert order[-2:] == ["join", "end"]


def test_plan_leaves_out_cached_nodes_and_what_only_they_need():
    assert run(Plan(DIAMOND, ["end"], {"left", "right"}.__contains__)) == ["join", "end"]


def test_cached_output_itself_is_still_on_the_plan():
    assert run(Plan(DIAMOND, ["end"], DIAMOND.__contains__)) == ["end"]


def test_output_that_is_ready_goes_before_other_nodes():
    graph = {
        "slow": node("ImageInvert", image=["source", 0]),
        "slow_end": node("SaveImage", images=["slow", 0]),
        "preview": node("PreviewImage", images=["source", 0]),
        "source": EMPTY,
    }
    order = run(Plan(graph, ["slow_end", "preview"], lambda _: False))
    assert order == ["source", "preview", "slow", "slow_end"]


@pytest.mark.parametrize("inputs", [None, [], "text", {"image": ["absent", 0]}, {"image": ["x"]}])
def test_malformed_inputs_are_no_links(inputs):
    graph = {"1": {"class_type": "ImageInvert", "inputs": inputs}}
    assert sorted_by_need(graph, ["1"]) == (["1"], set())
