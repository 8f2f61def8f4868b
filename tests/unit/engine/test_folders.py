import time

import pytest

from atelier.engine.folders import (
    FolderNotWritable,
    Folders,
    OutsideFolder,
    is_file,
    split_annotation,
    write_atomically,
)


@pytest.mark.parametrize(
    "parts",
    [
        ("../secret.png",),
        ("a/../../secret.png",),
        ("/etc/passwd",),
        ("sub", "../../output/x.png"),
        ("a\0b.png",),
    ],
)
def test_names_that_lead_out_of_a_folder_are_refused(folders, parts):
    with pytest.raises(OutsideFolder):
        folders.resolve("input", *parts)


def test_names_below_a_folder_are_resolved(folders):
    assert folders.resolve("temp", "a", "../b.png") == folders.root / "temp" / "b.png"


def test_unknown_folder_is_refused(folders):
    assert folders.directory("models") is None
    with pytest.raises(OutsideFolder):
        folders.resolve("models", "x")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("a.png", ("a.png", None)),
        ("a.png [output]", ("a.png", "output")),
        ("sub/a.png [temp]", ("sub/a.png", "temp")),
        ("a [input].png", ("a [input].png", None)),
    ],
)
def test_annotation_names_the_folder(name, split):
    assert split_annotation(name) == split


def test_counter_goes_on_after_the_highest_file_found(folders):
    for name in ("a_00007_.png", "a_00003_.png", "ab_00100_.png", "a_x_.png"):
        (folders.root / "output" / name).write_bytes(b"")
    assert folders.next_slot("output", "a", 1, 1, 2).counter == 8
    assert folders.next_slot("output", "a", 1, 1, 1).counter == 10


def test_counter_skips_what_somebody_else_wrote_meanwhile(folders):
    assert folders.next_slot("output", "a", 1, 1, 1).counter == 1
    (folders.root / "output" / "a_00002_.png").write_bytes(b"")
    assert folders.next_slot("output", "a", 1, 1, 1).counter == 3


def test_batch_number_is_filled_into_the_name_and_counted(folders):
    slot = folders.next_slot("output", "b%batch_num%", 1, 1, 2)
    names = [slot.filename(0), slot.filename(1)]
    assert names == ["b0_00001_.png", "b1_00002_.png"]
    for name in names:
        (folders.root / "output" / name).write_bytes(b"")
    assert Folders(folders.root).next_slot("output", "b%batch_num%", 1, 1, 1).counter == 3


def test_prefix_variables_are_filled_in(folders, monkeypatch):
    moment = time.struct_time((2026, 3, 4, 5, 6, 7, 2, 63, 0))
    monkeypatch.setattr(time, "localtime", lambda: moment)
    prefix = "%year%-%month%-%day% %hour%%minute%%second% %width%x%height%"
    slot = folders.next_slot("output", prefix, 640, 480, 1)
    assert slot.prefix == "2026-03-04 050607 640x480"
    assert folders.next_slot("output", "%date%", 1, 1, 1).prefix == "2026-03-04"
    assert folders.next_slot("output", "%date:d.M.yy hh-mm%", 1, 1, 1).prefix == "4.3.26 05-06"


@pytest.mark.parametrize("prefix", ["../x", "/var/x", "a/../../x", "a/../../../output/x"])
def test_prefix_that_leads_out_of_the_output_folder_is_refused(folders, prefix):
    with pytest.raises(OutsideFolder):
        folders.next_slot("output", prefix, 1, 1, 1)


def test_temp_starts_empty(folders):
    (folders.root / "temp" / "old.png").write_bytes(b"")
    Folders(folders.root)
    assert list((folders.root / "temp").iterdir()) == []


def test_root_that_is_a_file_is_refused_with_a_sentence(tmp_path):
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(FolderNotWritable, match="Can't write"):
        Folders(tmp_path / "taken")


def test_failed_write_leaves_neither_half_a_file_nor_a_partial_one(folders):
    target = folders.root / "output" / "directory"
    target.mkdir()
    with pytest.raises(OSError):
        write_atomically(target, b"data")
    assert list((folders.root / "output").iterdir()) == [target]


def test_names_that_no_file_can_have_are_no_files(folders):
    assert not is_file(folders.root / ("x" * 5000))
    assert not is_file(folders.root / "a\0b")


def test_input_listing_sorts_and_filters(folders):
    for name in ("b.png", "a.jpg", "notes.txt", ".partial"):
        (folders.root / "input" / name).write_bytes(b"")
    assert folders.input_files(images_only=True) == ["a.jpg", "b.png"]
    assert folders.input_files(images_only=False) == ["a.jpg", "b.png", "notes.txt"]
