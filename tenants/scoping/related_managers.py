"""Keep rows that are added to a reverse or a generic relation inside the current tenant.

For `invoice.lines.add(line)`, Django updates the lines by a manager that is not scoped, and sends no signal.
"""

from functools import wraps
from typing import Any

from django.db import router

from tenants.scoping.writes import check_added_rows

CREATED_BY = ("create_reverse_many_to_one_manager.", "create_generic_related_manager.")
"""The functions in which Django defines the classes of these relations' managers."""


def check_additions(manager: type[Any]) -> None:
    """Let `add()` check the rows first, if the class is that of such a relation's manager."""
    if not manager.__qualname__.startswith(CREATED_BY):
        return
    add = manager.add

    @wraps(add)
    def add_checked(self: Any, *objs: Any, bulk: bool = True) -> None:
        if bulk and all(isinstance(row, self.model) for row in objs):
            using = router.db_for_write(self.model, instance=self.instance)
            check_added_rows(objs, getattr(self, "field", None), self.instance, using)
        add(self, *objs, bulk=bulk)

    manager.add = add_checked
