"""Keep the deletion of single rows inside the current tenant.

A receiver of `pre_delete` would be simpler. With one, however, Django reads every row that a queryset or a
cascade deletes.
"""

from functools import wraps
from typing import Any

from django.db import router
from django.db.models import Model

from tenants.scoping.writes import check_deleted_row

CHECKED = "_deletions_are_checked"


def check_deletions(model: type[Model]) -> None:
    """Let `delete()` of the model's rows check the stored row first, with one statement.

    Do nothing if a base class of the model does that already.
    """
    if hasattr(model, CHECKED):
        return
    delete = model.delete

    @wraps(delete)
    def delete_checked(self: Model, *args: Any, **kwargs: Any) -> Any:
        using = args[0] if args else kwargs.get("using")
        check_deleted_row(self, using or router.db_for_write(type(self), instance=self))
        return delete(self, *args, **kwargs)

    model.delete = delete_checked  # type: ignore[method-assign]
    setattr(model, CHECKED, True)
