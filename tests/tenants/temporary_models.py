"""Models that exist for one test only."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.apps import apps
from django.db import connection, models


@contextmanager
def table_of(model: type[models.Model]) -> Iterator[None]:
    """Create the model's table for the block; forget table and model afterwards."""
    with connection.schema_editor() as editor:
        editor.create_model(model)
    yield
    with connection.schema_editor() as editor:
        editor.delete_model(model)
    del apps.all_models[model._meta.app_label][str(model._meta.model_name)]
    apps.clear_cache()
