"""The OpenAPI document, and the page that shows it."""

from collections.abc import Callable
from functools import cache

from django.http import HttpRequest, HttpResponseBase

View = Callable[[HttpRequest], HttpResponseBase]


def openapi_document(request: HttpRequest) -> HttpResponseBase:
    """Answer the OpenAPI document."""
    document, _ = _views()
    return document(request)


def openapi_page(request: HttpRequest) -> HttpResponseBase:
    """Answer the page, or its script, which has a URL of its own: inline scripts are forbidden."""
    _, page = _views()
    return page(request)


@cache
def _views() -> tuple[View, View]:
    # Few requests need these views. Importing them takes a tenth of the time that the project takes to start.
    from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView  # noqa: PLC0415

    return (
        SpectacularAPIView.as_view(authentication_classes=()),
        SpectacularSwaggerSplitView.as_view(authentication_classes=(), url_name="schema"),
    )
