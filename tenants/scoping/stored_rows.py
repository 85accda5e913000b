"""Check the stored row before a single row is updated or deleted.

Receivers of `pre_save` and `pre_delete` would be simpler. A receiver of `pre_save`, however, does not know
whether Django sends an UPDATE, and with one of `pre_delete`, Django reads every row that a queryset or a
cascade deletes.
"""

from functools import wraps
from typing import Any

from django.db import router
from django.db.models import Model

from tenants.scoping.writes import check_deleted_row, check_updated_row

UPDATES_CHECKED, DELETIONS_CHECKED = "_updates_are_checked", "_deletions_are_checked"
"""Attributes of a class whose methods check the stored row; its derived classes need no further check."""


def check_updates(model: type[Model]) -> None:
    """Let `save()` of the model's rows check the stored row before an UPDATE, with one statement."""
    if hasattr(model, UPDATES_CHECKED):
        return
    own: Any = model.__dict__.get("_do_update")

    @wraps(model._do_update)
    def update_checked(self: Model, base_qs: Any, using: Any, *args: Any) -> Any:
        if not base_qs.model._meta.parents:  # Of the tables of a row, the first one.
            check_updated_row(self, using)
        update: Any = _overridden(model, own, self, "_do_update")
        return update(base_qs, using, *args)

    model._do_update = update_checked  # type: ignore[method-assign,assignment]
    setattr(model, UPDATES_CHECKED, True)


def check_deletions(model: type[Model]) -> None:
    """Let `delete()` of the model's rows check the stored row first, with one statement."""
    if hasattr(model, DELETIONS_CHECKED):
        return
    own: Any = model.__dict__.get("delete")

    @wraps(model.delete)
    def delete_checked(self: Model, *args: Any, **kwargs: Any) -> Any:
        using = args[0] if args else kwargs.get("using")
        check_deleted_row(self, using or router.db_for_write(type(self), instance=self))
        return _overridden(model, own, self, "delete")(*args, **kwargs)

    model.delete = delete_checked  # type: ignore[method-assign]
    setattr(model, DELETIONS_CHECKED, True)


def _overridden(model: type[Model], own: Any, row: Model, name: str) -> Any:
    """Return the row's method that a check of the model replaces: the model's own, or the next base class's.

    The next base class is found by the row: a derived model may have a further base class.
    """
    return getattr(super(model, row), name) if own is None else own.__get__(row)
