"""Raw SQL with named parameters."""

import pytest

from tenants.sql import query, text_array

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "values", [[], [""], ["NULL"], ["a,b", "{c}", " d ", '"', "\\", '\\"', "\n", "é", "%(s)s"], ["org_1"] * 9]
)
def test_text_array_is_read_as_the_same_strings(values: list[str]) -> None:
    [(read,)] = query("SELECT %(values)s::text[]", values=text_array(values))
    assert read == values
