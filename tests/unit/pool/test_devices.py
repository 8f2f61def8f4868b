"""Which GPUs there are, as the tools of their makers tell, and which of them are meant."""

import os
import stat

import pytest

from atelier.errors import ConfigurationError
from atelier.pool.supervisor import devices
from atelier.pool.supervisor.devices import (
    Found,
    chosen_gpus,
    cpus,
    find_gpus,
    nvidia,
    rocm,
    visible,
)

TWO = "0, GPU-aa11, NVIDIA GeForce RTX 4090\n1, GPU-bb22, NVIDIA L4\n"
CARDS = """{"card2": {"Card Series": "Radeon PRO W7900"}, "card1": {"Card series": "MI300X"},
"system": {"Driver version": "6.8"}}"""


def test_nvidia_gpus_are_numbered_by_the_bus():
    first, second = nvidia(TWO)
    assert (first.id, first.name) == ("gpu-0", "NVIDIA GeForce RTX 4090")
    assert second.environment == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1"}
    assert nvidia("No devices were found\n") == ()


def test_amd_gpus_are_numbered_without_gaps():
    first, second = rocm(CARDS)
    assert (first.id, first.name, second.name) == ("gpu-0", "MI300X", "Radeon PRO W7900")
    assert second.environment == {"HIP_VISIBLE_DEVICES": "1"}
    assert rocm("WARNING: no AMD GPUs") == ()


@pytest.mark.parametrize(
    ("restriction", "left"),
    [
        (None, ["gpu-0", "gpu-1"]),
        ("1", ["gpu-1"]),
        ("GPU-bb", ["gpu-1"]),  # CUDA takes the beginning of a uuid
        ("", []),
        ("-1", []),
    ],
)
def test_variable_that_hides_gpus_is_heeded(restriction, left):
    assert [gpu.id for gpu in visible(nvidia(TWO), restriction)] == left


@pytest.mark.parametrize(
    ("wanted", "on_cpu", "ids"),
    [
        ("auto", None, ["gpu-0", "gpu-1"]),
        ("auto", 2, []),  # who asks for processes on the CPU means no others
        ("all", None, ["gpu-0", "gpu-1"]),
        ("all", 1, ["gpu-0", "gpu-1"]),
        ("1,0", None, ["gpu-1", "gpu-0"]),
        ("1, 1", None, ["gpu-1"]),
        ("none", None, []),
    ],
)
def test_gpus_that_are_meant(wanted, on_cpu, ids):
    assert [gpu.id for gpu in chosen_gpus(wanted, Found(nvidia(TWO)), on_cpu=on_cpu)] == ids


@pytest.mark.parametrize(
    ("wanted", "found", "said"),
    [
        ("0,7", Found(nvidia(TWO)), "no GPU 7 on this machine; there is: 0 (NVIDIA GeForce"),
        ("all", Found(), "No GPU was found"),
        ("0", Found(problem="nvidia-smi: driver mismatch"), "(nvidia-smi: driver mismatch)"),
    ],
)
def test_gpu_that_is_asked_for_and_not_there_is_an_error(wanted, found, said):
    with pytest.raises(ConfigurationError) as caught:
        chosen_gpus(wanted, found, on_cpu=None)
    assert said in caught.value.message


def test_nothing_is_an_error_where_no_gpu_was_asked_for():
    assert chosen_gpus("auto", Found(problem="no driver"), on_cpu=None) == ()


def test_processes_on_the_cpu_share_its_cores():
    assert [(one.id, dict(one.environment)) for one in cpus(2, 9, {})] == [
        ("cpu-0", {"OMP_NUM_THREADS": "4"}),
        ("cpu-1", {"OMP_NUM_THREADS": "4"}),
    ]
    assert cpus(3, 2, {})[2].environment == {"OMP_NUM_THREADS": "1"}
    assert cpus(1, 8, {"OMP_NUM_THREADS": "6"})[0].environment == {}


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Puts a program of this name on a PATH that has nothing else."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(devices.sys, "platform", "linux")

    def put(name, script):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return put


async def test_tools_of_the_makers_are_asked(tool):
    assert await find_gpus({}) == Found()
    tool("rocm-smi", f"echo '{CARDS}'")
    assert [gpu.name for gpu in (await find_gpus({})).gpus] == ["MI300X", "Radeon PRO W7900"]
    tool("nvidia-smi", f"echo '{TWO}'")
    found = await find_gpus({**os.environ, "CUDA_VISIBLE_DEVICES": "1"})
    assert [gpu.name for gpu in found.gpus] == ["NVIDIA L4"]


async def test_driver_that_fails_is_told(tool):
    tool("nvidia-smi", "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    found = await find_gpus({})
    assert found.problem == (
        "nvidia-smi: Failed to initialize NVML: Driver/library version mismatch"
    )
