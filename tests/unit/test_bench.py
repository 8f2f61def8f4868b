"""The benchmarks' arithmetic, and that they run. No time is asserted: that is what they print."""

import importlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch):
    """Imports a module of the benchmarks, which are no part of the package."""
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"bench.{name}")


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([7], 50, 7),
        ([3, 1, 2], 50, 2),
        ([4, 3, 2, 1], 50, 2),  # two of four are at most 2
        (range(1, 101), 99, 99),
        (range(1, 101), 100, 100),
        (range(1, 11), 95, 10),  # nearest rank: never between two values
        (range(1, 11), 0, 1),
    ],
)
def test_percentile_is_the_nearest_rank(bench, values, percent, expected):
    assert bench("samples").percentile(values, percent) == expected


@pytest.mark.parametrize(
    ("values", "expected"), [([5], 5), ([9, 1, 2], 2), ([4, 1, 3, 2], 2.5), ([1, 1, 100], 1)]
)
def test_median_is_the_middle(bench, values, expected):
    assert bench("samples").median(values) == expected


def test_nothing_has_no_percentile_and_no_median(bench):
    for call in (lambda: bench("samples").percentile([], 50), lambda: bench("samples").median([])):
        with pytest.raises(ValueError, match="nothing"):
            call()


def test_rate_counts_what_ended_after_all_was_queued(bench):
    # Two ended while the others were still being submitted; four in the two seconds after that.
    ends = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert bench("samples").rate_after(ends, 1.0) == 2.0
    with pytest.raises(ValueError, match="queue more"):
        bench("samples").rate_after(ends, 3.0)


def test_memory_is_read_from_proc(bench):
    status = "Name:\tpython\nVmPeak:\t  999 kB\nVmRSS:\t  123456 kB\nThreads:\t4\n"
    assert bench("samples").parse_kilobytes(status, "VmRSS") == 123456 * 1024
    with pytest.raises(ValueError, match="no Pss"):
        bench("samples").parse_kilobytes(status, "Pss")


def test_picture_of_another_colour_is_noticed(bench, tmp_path):
    graphs = bench("graphs")
    colours = graphs.Colours("p", random.Random(1))
    colour = colours.draw()
    graph = colours.graph(colour)
    assert graph["1"]["inputs"]["color"] == colour
    file = tmp_path / "a.png"
    Image.new("RGB", (64, 64), (colour >> 16, colour >> 8 & 255, colour & 255)).save(file)
    graphs.check_picture(file.read_bytes(), colour)
    with pytest.raises(graphs.WrongPicture):
        graphs.check_picture(file.read_bytes(), colour ^ 1)


def test_table_says_what_is_met(bench):
    figure = bench("figure")
    lines = figure.table(
        [
            figure.at_most("latency", 7.96, 8, "ms"),
            figure.at_least("ratio", 0.799, 0.8),
            figure.skipped("memory", "no /proc"),
        ]
    ).splitlines()
    assert [" ".join(line.split()) for line in lines[2:]] == [
        "latency 8.0 ms at most 8 ms met",
        "ratio 0.80 at least 0.8 NOT MET",
        "memory not measured: no /proc",
    ]


def test_latency_is_measured(tmp_path):
    """In a process, as `make bench` does; atelier and the engine are started and ended by it."""
    environment = {name: value for name, value in os.environ.items() if name != "COMFYUI_URLS"}
    run = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "latency"],
        cwd=ROOT,
        env={**environment, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "the embedded engine" in run.stdout
    assert "latency, p50 added by atelier, until done" in run.stdout
    assert not list(tmp_path.iterdir()), "something was left behind"


@pytest.mark.parametrize(
    ("here", "there", "told"),
    [
        ({"a": 1, "b": [1, "x"]}, {"b": [1.0, "x"], "a": 1}, []),  # order and 1.0 are no difference
        ({"a": 1}, {"a": True}, ["/a is 1, the front end has true"]),
        ({"a": [1, 2]}, {"a": [1]}, ["/a is [1, 2], the front end has [1]"]),
        ({"a": {"b": 1}}, {"a": {}}, ["/a/b is only in ours: 1"]),
        ({}, {"a": None}, ["/a is only in the front end's: null"]),
    ],
)
def test_differences_of_two_exports_are_named(bench, here, there, told):
    assert list(bench("conversion").differences(here, there)) == told


def test_graphs_to_convert_are_those_in_ui_format(bench, tmp_path):
    (tmp_path / "a.ui.json").write_text('{"nodes": [], "links": []}')
    (tmp_path / "index.json").write_text("[1]")
    (tmp_path / "broken.json").write_text("{")
    conversion = bench("conversion")
    assert [name for name, _ in conversion.read_graphs(tmp_path)] == ["a.ui.json"]
    conversion.write_export(tmp_path, "a.ui.json", {"1": {}})
    assert (tmp_path / "a.api.json").read_text() == '{\n  "1": {}\n}\n'


def test_unknown_figure_is_refused_with_the_names():
    run = subprocess.run(
        [sys.executable, "-m", "bench", "latancy"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 2
    assert "latency" in run.stderr
