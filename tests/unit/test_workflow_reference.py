"""The page on the shipped workflows says what the manifests say."""

from pathlib import Path

from atelier.cli.reference import reference
from atelier.workflows.library import Library

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "workflow-library.md"
MARK = "<!-- generated: atelier workflows reference -->\n\n"


def test_the_page_is_in_step_with_the_manifests() -> None:
    before, mark, generated = PAGE.read_text("utf-8").partition(MARK)
    assert mark, "the page has lost its mark"
    assert "`variant`" in before
    assert generated == reference(Library()), (
        "replace what follows the mark by the output of `atelier workflows reference`"
    )
