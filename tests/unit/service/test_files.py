"""Names that are sent, as paths below the folder of inputs."""

import pytest

from atelier.service.files import FileNameRefused, input_path


@pytest.mark.parametrize(
    ("filename", "subfolder", "path"),
    [
        ("cat.png", "", "cat.png"),
        ("cat.png", "cats", "cats/cat.png"),
        ("cat.png", "cats/black/", "cats/black/cat.png"),
        ("cats/cat.png", "", "cats/cat.png"),
        ("C:\\fakepath\\cat.png", "", "C:/fakepath/cat.png"),
        (" größe 图.png ", ".", "größe 图.png"),
        ("a..b.png", "", "a..b.png"),
    ],
)
def test_path_of_a_name(filename, subfolder, path):
    assert input_path(filename, subfolder) == path


@pytest.mark.parametrize(
    ("filename", "subfolder"),
    [
        ("", ""),
        (".", ""),
        ("cats/", ""),
        ("..", ""),
        ("../cat.png", ""),
        ("cat.png", ".."),
        ("cat.png", "cats/../.."),
        ("cat.png", "..\\up"),
        ("cat.png", "/etc"),
        ("a\nb.png", ""),
        ("a\0.png", ""),
        ("a" * 600, ""),
    ],
)
def test_name_that_leads_out_or_is_none_is_refused(filename, subfolder):
    with pytest.raises(FileNameRefused):
        input_path(filename, subfolder)
