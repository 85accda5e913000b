"""The DRF configuration of this API's views, whatever a project's REST_FRAMEWORK says."""

from collections.abc import Callable
from typing import Any, ClassVar

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

from tenants.api.authentication import ClerkSessionAuthentication, StaffSessionAuthentication
from tenants.api.exception_handlers import ApiExceptionHandler
from tenants.api.metadata import MethodsMetadata
from tenants.api.parsers import LimitedJSONParser


class DescribedLater:
    """Descriptor of `schema`; imports `tenants.api.operations` when the OpenAPI document is made."""

    def __get__(self, view: Any, owner: type) -> Any:
        """Return the schema of the view."""
        from tenants.api.operations import OperationSchema  # noqa: PLC0415  (needs much of drf-spectacular)

        return OperationSchema().__get__(view, owner)


class ApiConfiguration:
    """Sets what a view takes from REST_FRAMEWORK otherwise; place it before DRF's class."""

    authentication_classes: ClassVar[Any] = (ClerkSessionAuthentication, StaffSessionAuthentication)
    permission_classes: ClassVar[Any] = (IsAuthenticated,)
    parser_classes: ClassVar[Any] = (LimitedJSONParser,)
    renderer_classes: ClassVar[Any] = (JSONRenderer,)
    throttle_classes: ClassVar[Any] = ()
    filter_backends: ClassVar[Any] = ()
    pagination_class: ClassVar[Any] = None
    versioning_class: ClassVar[Any] = None
    content_negotiation_class: ClassVar[Any] = DefaultContentNegotiation
    metadata_class: ClassVar[Any] = MethodsMetadata
    schema: ClassVar[Any] = DescribedLater()

    def get_exception_handler(self) -> Callable[[Exception, Any], Response | None]:
        """Return the handler that answers errors in the API's shape."""
        return lambda exc, context: ApiExceptionHandler(exc, context).run()
