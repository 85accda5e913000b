"""The admin page of rows that nobody edits: what Clerk says is recorded, what is ours has its services."""

from typing import TYPE_CHECKING, Any

from django.http import HttpRequest

if TYPE_CHECKING:
    # Unfold ships no types; its ModelAdmin is Django's in another dress.
    from django.contrib.admin import ModelAdmin as DjangoModelAdmin

    ModelAdmin = DjangoModelAdmin[Any]
else:
    from unfold.admin import ModelAdmin


class ReadOnlyAdmin(ModelAdmin):
    """Lists and shows rows to staff with the model's view or change permission; adds, changes, deletes none.

    Actions declare `permissions=["operate"]`: the model's change permission, which opens no form here.
    """

    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: a row comes from Clerk, or from the services."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: a changed record of Clerk's would be a lie."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: a deleted record comes back with the next sync or the next repeat."""
        return False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whether the user may run the actions."""
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")
