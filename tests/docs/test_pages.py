"""Every command and code block of the documentation works as written."""

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management.color import no_style
from django.db import connection
from django.db.models import Model

from tests.docs.machine import STATES, Machine
from tests.docs.pages import Page, pages

MAX_NOT_RUN = 15
PAGES = list(pages())


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("docs"))
    yield machine
    machine.close()


@pytest.mark.slow
@pytest.mark.django_db(transaction=True, reset_sequences=True)  # pages name "run 1"
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_followed_to_the_letter_works(page: Page, machine: Machine) -> None:
    continue_sequences(ContentType, Permission)
    machine.follow(page)


def continue_sequences(*models: type[Model]) -> None:
    """Continue the numbering of tables that keep their rows between tests: a page adds a model to them."""
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), models):
            cursor.execute(statement)


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    """A block needs a mark if it needs a real Clerk instance, a container engine or more than a minute."""
    not_run = [f"{page.name}:{block.line}" for page in PAGES for block in page.blocks if block.not_run]

    assert len(not_run) <= MAX_NOT_RUN, not_run


def test_pages_begin_in_known_states() -> None:
    assert {page.begins for page in PAGES} <= STATES.keys()
