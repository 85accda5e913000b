"""Finding the handler of a request."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.local_clerk import LocalClerk
from clerk_integration.sandbox.messages import Reply, Request

Handler = Callable[..., Reply]
"""Called with the LocalClerk, the Request and the path's variables by name."""


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path such as `/v1/users/{user_id}`, and what answers it."""

    method: str
    path: str
    handler: Handler
    public: bool = False
    """Whether it is served without the secret key."""
    unlimited: bool = False
    """Whether Clerk counts no rate limit for it."""
    limited_per: tuple[str, ...] = ()
    """The path's variables that name an object of which Clerk allows so many changes only."""

    @property
    def segments(self) -> tuple[str, ...]:
        """The parts of the path."""
        return tuple(self.path.split("/")[1:])

    def variables(self, segments: tuple[str, ...]) -> dict[str, str] | None:
        """Return the path's variables when it matches; an empty part never does."""
        found: dict[str, str] = {}
        for pattern, value in zip(self.segments, segments, strict=True):
            if pattern.startswith("{"):
                if not value:
                    return None
                found[pattern[1:-1]] = value
            elif pattern != value:
                return None
        return found


class Router:
    """Routes by method and number of parts."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._by_size: dict[tuple[str, int], list[Route]] = {}
        for route in self.routes:
            self._by_size.setdefault((route.method, len(route.segments)), []).append(route)

    def find(self, method: str, segments: tuple[str, ...]) -> tuple[Route, dict[str, str]]:
        """Return the route with its path variables; raise `resource_not_found` as Clerk does."""
        for route in self._by_size.get((method, len(segments)), ()):
            variables = route.variables(segments)
            if variables is not None:
                return route, variables
        raise ApiError("resource_not_found", f"There is no route {method} /{'/'.join(segments)}.")

    def dispatch(self, clerk: LocalClerk, request: Request, segments: tuple[str, ...]) -> Reply:
        """Call the handler of the request, no questions asked."""
        route, variables = self.find(request.method, segments)
        return route.handler(clerk, request, **variables)
