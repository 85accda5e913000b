"""Answer one page of a large list: `{"count", "next", "previous", "results"}`."""

from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param

from tenants.sql import LARGE, read_page

PAGE_SIZE = 50
MAX_PAGE_SIZE = 100
MAX_PAGE = 1_000_000


class PageParameters(serializers.Serializer[Any]):
    """The query parameters of every list that is answered in pages."""

    page = serializers.IntegerField(min_value=1, max_value=MAX_PAGE, default=1, help_text="The first is 1.")
    pageSize = serializers.IntegerField(
        source="page_size", min_value=1, max_value=MAX_PAGE_SIZE, default=PAGE_SIZE
    )


class PageSerializer(serializers.Serializer[Any]):
    """A page without its `results`, which subclasses add."""

    count = serializers.IntegerField(help_text="The number of rows on all pages.")
    countIsEstimate = serializers.BooleanField(
        required=False, help_text=f"Present, and true, if there are more than {LARGE:,} rows."
    )
    next = serializers.URLField(allow_null=True, help_text="The URL of the next page.")
    previous = serializers.URLField(allow_null=True, help_text="The URL of the previous page.")


def page_response(
    request: Request,
    rows: QuerySet[Any, dict[str, Any]],
    *,
    page: int,
    page_size: int,
    matching: QuerySet[Any, Any] | None = None,
) -> Response:
    """Return the page of a queryset of `values()`; raise NotFound for a page after the last.

    `matching` is as in `read_page`.
    """
    found = read_page(rows, number=page, size=page_size, matching=matching)
    if page > 1 and not found.rows:
        raise NotFound(f"There is no page {page} with a pageSize of {page_size}.")
    url = request.build_absolute_uri()
    is_estimate = {"countIsEstimate": True} if found.count_is_estimate else {}
    return Response(
        {
            "count": found.count,
            **is_estimate,
            "next": replace_query_param(url, "page", page + 1) if found.has_next else None,
            "previous": _previous(url, page),
            "results": found.rows,
        }
    )


def _previous(url: str, page: int) -> str | None:
    if page == 1:
        return None
    return remove_query_param(url, "page") if page == 2 else replace_query_param(url, "page", page - 1)  # noqa: PLR2004
