"""The OpenAPI document, and the page that shows it."""

from collections.abc import Callable
from functools import cache

from django.http import HttpRequest, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

View = Callable[[HttpRequest], HttpResponseBase]


# Exempt, as DRF's own views are: a POST gets 405 instead of Django's page about CSRF.
@csrf_exempt
def openapi_document(request: HttpRequest) -> HttpResponseBase:
    """Answer the OpenAPI document."""
    document, _ = _views()
    return document(request)


@csrf_exempt
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
        # The page has no template with which it could answer OPTIONS.
        SpectacularSwaggerSplitView.as_view(
            authentication_classes=(), http_method_names=("get", "head"), url_name="schema"
        ),
    )
