"""Answer OPTIONS."""

from typing import Any

from rest_framework.metadata import BaseMetadata
from rest_framework.request import Request
from rest_framework.views import APIView


class MethodsMetadata(BaseMetadata):
    """Names the media types and what each allowed method does; the OpenAPI document holds the rest.

    DRF's own class would show the fields of one serializer for every method.
    """

    def determine_metadata(self, request: Request, view: APIView) -> dict[str, Any]:
        """Return the body of the response."""
        return {
            "renders": [renderer.media_type for renderer in view.renderer_classes],
            "parses": [parser.media_type for parser in view.parser_classes],
            "methods": {
                method.upper(): (getattr(view, action).__doc__ or "").partition("\n")[0]
                for method, action in getattr(view, "action_map", {}).items()
                if method != "head"
            },
        }
