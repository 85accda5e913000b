"""The REST API under `/api/v1/`: views that parse a request, call one service and render the result."""
