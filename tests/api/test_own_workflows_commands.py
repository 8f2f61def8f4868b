"""`atelier workflows` on a running service."""

import json
import sys

import pytest

from atelier.cli import main

GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 32, "batch_size": 1}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}},
}


@pytest.fixture
def atelier(backstage, monkeypatch, capsys, tmp_path):
    """(exit code, stdout, stderr) of a command line; the service is another process's."""
    monkeypatch.setenv("ATELIER_URL", backstage.base)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("atelier.cli.catalogue.configure_logging", lambda level: None)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["atelier", "workflows", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


def test_a_workflow_is_added_shown_copied_over_a_shipped_one_and_removed(atelier, tmp_path):
    (tmp_path / "plain.json").write_text(json.dumps(GRAPH))
    code, out, err = atelier("add", "plain.json", "--inputs", "size, filename_prefix")
    assert code == 0, err
    assert "added: plain" in out
    code, out, _ = atelier("show", "plain")
    assert "filename_prefix" in out
    code, out, _ = atelier("show", "plain", "--json")
    (tmp_path / "again.json").write_text(out)
    code, out, err = atelier("add", "again.json", "--name", "style_change")
    assert code == 0, err
    assert "changed: style_change" in out
    code, out, _ = atelier("list")
    assert out.count(" own ") == 2
    code, out, _ = atelier("remove", "style_change")
    assert "the shipped one of that name is there again" in out
    assert atelier("remove", "plain")[:2] == (0, "removed: plain\n")
    code, _, err = atelier("remove", "style_change")
    assert code == 1
    assert "is shipped" in err


def test_check_is_a_failure_while_no_instance_can_run_it(atelier, tmp_path):
    (tmp_path / "plain.json").write_text(json.dumps(GRAPH))
    for what in ("plain.json", "style_change"):
        code, out, _ = atelier("check", what)
        assert code == 1
        assert "No ComfyUI instance can be reached" in out
    assert not (tmp_path / "data").exists()


def test_a_file_that_can_not_be_read_is_a_sentence(atelier, tmp_path):
    (tmp_path / "text.json").write_text("a cat")
    assert "is not JSON" in atelier("add", "text.json")[2]
    assert "can't be read" in atelier("check", "absent.json")[2]
