"""Base class of read-only admin pages: only Clerk's data and the services change the rows."""

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import BadRequest, ValidationError
from django.db import DataError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

if TYPE_CHECKING:
    # Unfold ships no types; its ModelAdmin is a subclass of Django's.
    from django.contrib.admin import ModelAdmin as DjangoModelAdmin

    ModelAdmin = DjangoModelAdmin[Any]
elif apps.is_installed("unfold"):
    from unfold.admin import ModelAdmin
else:
    from django.contrib.admin import ModelAdmin


class ReadOnlyAdmin(ModelAdmin):
    """Show rows to staff with the model's view or change permission.

    Actions declare `permissions=["operate"]`. The model's change permission grants it.
    """

    list_per_page = 50

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """Return the list. Raise IncorrectLookupParameters for a filter value that PostgreSQL refuses.

        Django then shows the whole list. Examples are a NUL, and a status that the enum does not have.
        """
        try:
            changelist: ChangeList = super().get_changelist_instance(request)
        except DataError as error:
            raise IncorrectLookupParameters from error
        # Unfold offers "Show all" if the two counts differ.
        if not changelist.query and not changelist.has_active_filters:
            changelist.full_result_count = changelist.result_count
        return changelist

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Return the rows that the text finds. No text of PostgreSQL has a NUL, so that finds nothing."""
        if "\0" in search_term:
            return queryset.none(), False
        found: tuple[QuerySet[Any], bool] = super().get_search_results(request, queryset, search_term)
        return found

    def response_action(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse | None:
        """Run a list action. Raise BadRequest for a selected row whose key is none."""
        try:
            for key in request.POST.getlist(ACTION_CHECKBOX_NAME):
                self.opts.pk.to_python(key)
        except ValidationError as error:
            raise BadRequest(
                "The selection holds a key that no row can have. Nothing was changed."
            ) from error
        response: HttpResponse | None = super().response_action(request, *args, **kwargs)
        return response

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False, because the next sync would create a deleted row again."""
        return False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may run the actions."""
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")
