"""Keep rows that are added to a reverse relation inside the current tenant.

For `invoice.lines.add(line)`, Django updates the lines by a manager that is not scoped, and sends no signal.
"""

from functools import wraps
from typing import Any

from django.db import router

from tenants.scoping.writes import check_added_rows

CREATED_BY = "create_reverse_many_to_one_manager."
"""The function in which Django defines the class of a reverse relation's manager."""


def check_additions(manager: type[Any]) -> None:
    """Let `add()` check the rows first, if the class is that of a reverse relation's manager."""
    if not manager.__qualname__.startswith(CREATED_BY):
        return
    add = manager.add

    @wraps(add)
    def add_checked(self: Any, *objs: Any, bulk: bool = True) -> None:
        if bulk and all(isinstance(row, self.model) for row in objs):
            using = router.db_for_write(self.model, instance=self.instance)
            check_added_rows(objs, self.field, self.instance, using)
        add(self, *objs, bulk=bulk)

    manager.add = add_checked
