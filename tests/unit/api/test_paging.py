import pytest

from atelier.api.paging import from_cursor, to_cursor
from atelier.api.problems import Refused


@pytest.mark.parametrize("position", ["01890a5d-ac96-774b-bcce-b302099a8057", "a", "x" * 100])
def test_cursor_leads_back_to_its_position(position):
    assert from_cursor(to_cursor(position)) == position


def test_last_page_has_no_cursor():
    assert to_cursor(None) is None
    assert from_cursor(None) is None


@pytest.mark.parametrize(
    "cursor", ["", "a", "abc", "Y2M6eA", "💥", "01890a5d-ac96", "YzE6AAA", "=" * 9]
)
def test_strangers_cursor_is_refused(cursor):
    with pytest.raises(Refused) as refused:
        from_cursor(cursor)
    assert refused.value.problem.errors[0].field == "cursor"
