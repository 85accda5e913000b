"""Find the handler of a request by its method and path."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints
from urllib.parse import unquote

from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.messages import Reply, Request
from clerk_integration.sandbox.parameters import Parameters
from clerk_integration.sandbox.queries import Query

Handler = TypeVar("Handler", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path such as `/v1/users/{user_id}`, and the handler of its requests.

    The handler gets the LocalClerk and, as keyword arguments, the variables of the path. A handler with an
    argument `given: SomeParameters` gets the parameters of the request in `given`. A handler returns a JSON
    value, JSON text or a Reply.
    """

    method: str
    path: str
    pattern: re.Pattern[str]
    handler: Callable[..., Any]
    parameters: type[Parameters] | None
    unlimited: bool
    """True if Clerk has no rate limit for these requests."""
    limited_per: tuple[str, ...]
    """The path variables with the ids of the object whose changes Clerk limits."""

    def call(self, clerk: Any, request: Request, variables: dict[str, str]) -> Reply:
        """Read the parameters and call the handler; refuse a query if the handler declares no parameters."""
        if self.parameters is None:
            Query.read(request)
            return Reply.of(self.handler(clerk, **variables))
        return Reply.of(self.handler(clerk, given=self.parameters.read(request), **variables))


class Router:
    """The routes of one API."""

    def __init__(self) -> None:
        self.routes: list[Route] = []

    def route(
        self,
        method: str,
        path: str,
        *,
        unlimited: bool = False,
        limited_per: tuple[str, ...] = (),
    ) -> Callable[[Handler], Handler]:
        """Return a decorator that registers a function as the handler of a method and a path."""
        pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path.replace(".", r"\.")))

        def register(handler: Handler) -> Handler:
            parameters = get_type_hints(handler).get("given")
            self.routes.append(Route(method, path, pattern, handler, parameters, unlimited, limited_per))
            return handler

        return register

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """Return the route with the variables of its path; raise `resource_not_found` as Clerk does."""
        for route in self.routes:
            if route.method == method and (match := route.pattern.fullmatch(path)):
                return route, {name: unquote(value) for name, value in match.groupdict().items()}
        raise ApiError("resource_not_found", f"There is no route {method} {path}.")

    def dispatch(self, clerk: Any, request: Request, path: str) -> Reply:
        """Call the handler of a path; do not check the key, the API version and the rate limits."""
        route, variables = self.find(request.method, path)
        return route.call(clerk, request, variables)


API = Router()
"""Clerk's API. The modules in `routes` register the handlers."""
CONTROL = Router()
"""The paths under /sandbox. The module `control` registers the handlers."""
