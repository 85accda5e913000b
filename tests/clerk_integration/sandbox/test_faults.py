"""Faults on demand, latency and rate limits."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from clerk_integration.sandbox.server import SandboxServer
from tests.sandbox import SandboxControl


@pytest.fixture
def http(sandbox: SandboxControl) -> Iterator[httpx.Client]:
    with sandbox.backend_client() as client:
        yield client


def _names(sandbox: SandboxControl) -> list[str]:
    return [row["name"] for row in sandbox.api("GET", "/organizations")["data"]]


def test_fault_drop_after_commit_changes_once_and_closes_the_connection(
    sandbox: SandboxControl, http: httpx.Client
) -> None:
    sandbox.fault("POST /v1/organizations", dropAfterCommit=True)

    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/v1/organizations", json={"name": "Acme"})

    assert _names(sandbox) == ["Acme"]
    assert [call["status"] for call in sandbox.requests("POST")] == [None]
    assert http.post("/v1/organizations", json={"name": "Next"}).status_code == 200


def test_fault_timeout_commits_and_holds_the_answer_back(sandbox: SandboxControl, http: httpx.Client) -> None:
    sandbox.fault("POST /v1/organizations", timeoutSeconds=30)

    with pytest.raises(httpx.ReadTimeout):
        http.post("/v1/organizations", json={"name": "Acme"}, timeout=0.2)

    assert _names(sandbox) == ["Acme"]


def test_fault_status_changes_nothing(sandbox: SandboxControl, http: httpx.Client) -> None:
    sandbox.fault("POST /v1/*", status=503, times=2)

    replies = [http.post("/v1/organizations", json={"name": f"Acme {number}"}) for number in range(3)]

    assert [reply.status_code for reply in replies] == [503, 503, 200]
    assert replies[0].json()["errors"][0]["code"] == "service_unavailable"
    assert _names(sandbox) == ["Acme 2"]


def test_fault_status_without_a_code_of_clerks_has_no_body(
    sandbox: SandboxControl, http: httpx.Client
) -> None:
    sandbox.fault("GET *", status=502)

    reply = http.get("/v1/organizations")

    assert (reply.status_code, reply.content) == (502, b"")


def test_fault_rate_limit_answers_429_with_retry_after(sandbox: SandboxControl, http: httpx.Client) -> None:
    sandbox.fault("GET /v1/organizations", rateLimit=7)

    reply = http.get("/v1/organizations")

    assert (reply.status_code, reply.headers["Retry-After"]) == (429, "7")
    assert reply.json()["errors"][0]["code"] == "too_many_requests"


def test_fault_body_is_sent_as_it_is(sandbox: SandboxControl, http: httpx.Client) -> None:
    sandbox.fault("GET /v1/organizations", body='{"data": [')

    reply = http.get("/v1/organizations")

    assert (reply.status_code, reply.text) == (200, '{"data": [')


def test_fault_for_another_path_waits(sandbox: SandboxControl, http: httpx.Client) -> None:
    sandbox.fault("GET /v1/users*", status=500)

    assert http.get("/v1/organizations").status_code == 200
    assert http.get("/v1/users/count").status_code == 500


def test_clear_faults_lets_requests_succeed_again(sandbox: SandboxControl, http: httpx.Client) -> None:
    sandbox.fault("*", status=503, times=1000)
    assert http.get("/v1/organizations").status_code == 503

    sandbox.clear_faults()

    assert http.get("/v1/organizations").status_code == 200


@pytest.mark.parametrize(
    "fault",
    [
        {"match": "GET *"},
        {"match": "", "status": 500},
        {"match": "GET *", "status": 700},
        {"match": "GET *", "status": "500"},
        {"match": "GET *", "status": 500, "times": 0},
        {"match": "GET *", "timeoutSeconds": -1},
        {"match": "GET *", "nonsense": True},
    ],
)
def test_fault_with_bad_fields_is_refused(sandbox: SandboxControl, fault: dict[str, object]) -> None:
    reply = httpx.post(f"{sandbox.url}/sandbox/faults", json=fault)

    assert reply.status_code == 422
    assert httpx.get(f"{sandbox.url}/sandbox/faults").json() == []


def test_rate_limit_of_a_development_instance_is_one_hundred_requests(
    sandbox: SandboxControl, http: httpx.Client
) -> None:
    sandbox.settings(rateLimit="dev")

    statuses = [http.get("/v1/users/count").status_code for _ in range(101)]
    refused = http.get("/v1/organizations")

    assert statuses == [200] * 100 + [429]
    assert 1 <= int(refused.headers["Retry-After"]) <= 10
    assert http.get("/v1/jwks").status_code == 200


def test_rate_limit_counts_changes_per_organization(sandbox: SandboxControl, http: httpx.Client) -> None:
    first, second = (sandbox.organization(name)["id"] for name in ("First", "Second"))
    sandbox.settings(rateLimit="live")

    statuses = [
        http.patch(f"/v1/organizations/{first}", json={"name": "Renamed"}).status_code for _ in range(11)
    ]

    assert statuses == [200] * 10 + [429]
    assert http.put(f"/v1/organizations/{first}/metadata", json={}).status_code == 429
    assert http.patch(f"/v1/organizations/{second}", json={"name": "Renamed"}).status_code == 200


def test_rate_limit_counts_changes_per_membership(sandbox: SandboxControl, http: httpx.Client) -> None:
    user, other = (sandbox.user()["id"] for _ in range(2))
    members = f"/v1/organizations/{sandbox.organization('Acme')['id']}/memberships"
    for user_id in (user, other):
        http.post(members, json={"user_id": user_id, "role": "org:member"})
    sandbox.settings(rateLimit="live")

    statuses = [
        http.patch(f"{members}/{user}", json={"role": "org:member"}).status_code for _ in range(5)
    ] + [http.patch(f"{members}/{user}/metadata", json={}).status_code for _ in range(6)]
    refused = http.patch(f"{members}/{user}", json={"role": "org:member"})

    assert statuses == [200] * 10 + [429]
    assert (refused.status_code, 1 <= int(refused.headers["Retry-After"]) <= 10) == (429, True)
    assert http.patch(f"{members}/{other}", json={"role": "org:member"}).status_code == 200
    assert http.patch(f"/v1/users/{user}", json={}).status_code == 200
    assert http.delete(f"{members}/{user}").status_code == 200


def test_rate_limit_counts_changes_per_user(sandbox: SandboxControl, http: httpx.Client) -> None:
    user, other = (sandbox.user()["id"] for _ in range(2))
    sandbox.settings(rateLimit="live")

    statuses = [http.patch(f"/v1/users/{user}", json={"first_name": "Ada"}).status_code for _ in range(11)]

    assert statuses == [200] * 10 + [429]
    assert http.patch(f"/v1/users/{other}", json={"first_name": "Ada"}).status_code == 200
    assert http.get(f"/v1/users/{user}").status_code == 200


def test_reset_drops_requests_that_are_still_delayed(sandbox: SandboxControl, http: httpx.Client) -> None:
    sandbox.settings(latencyMs=30_000)
    with ThreadPoolExecutor(1) as pool:
        delayed = pool.submit(http.post, "/v1/organizations", json={"name": "Acme"})
        while not sandbox.requests("POST"):
            pass

        sandbox.reset()

        with pytest.raises(httpx.RemoteProtocolError):
            delayed.result(timeout=20)
    assert _names(sandbox) == []


def test_latency_delays_the_change_itself(sandbox: SandboxControl, http: httpx.Client) -> None:
    sandbox.settings(latencyMs=30_000)

    with pytest.raises(httpx.ReadTimeout):
        http.post("/v1/organizations", json={"name": "Acme"}, timeout=0.2)

    assert _names(sandbox) == []


def test_fault_reset_does_nothing_and_resets_the_connection(
    sandbox: SandboxControl, http: httpx.Client
) -> None:
    sandbox.fault("POST /v1/organizations", reset=True)

    with pytest.raises(httpx.ReadError, match="reset by peer"):
        http.post("/v1/organizations", json={"name": "Acme"})

    assert _names(sandbox) == []


def test_fault_body_of_html_has_its_content_type(sandbox: SandboxControl, http: httpx.Client) -> None:
    sandbox.fault("GET *", status=403, body="<h1>Forbidden</h1>", contentType="text/html")

    reply = http.get("/v1/organizations")

    assert (reply.status_code, reply.headers["Content-Type"]) == (403, "text/html")


def test_fault_patch_changes_the_reply_and_no_record(sandbox: SandboxControl, http: httpx.Client) -> None:
    sandbox.organization("Acme")
    sandbox.fault("GET /v1/organizations", patch={"total_count": 7, "data": None})

    assert http.get("/v1/organizations").json() == {"total_count": 7}
    assert http.get("/v1/organizations").json()["total_count"] == 1


def test_fault_then_lets_a_list_grow_and_shrink_while_it_is_read(
    sandbox: SandboxControl, http: httpx.Client
) -> None:
    first = sandbox.organization("First")["id"]
    sandbox.after_each("GET /v1/organizations", "POST", "/organizations", {"name": "Grown"}, times=2)
    sandbox.after_each("GET /v1/organizations", "DELETE", f"/organizations/{first}")

    counts = [http.get("/v1/organizations").json()["total_count"] for _ in range(4)]

    assert counts == [1, 2, 3, 2]


def test_outage_refuses_connections_until_the_server_stops() -> None:
    server = SandboxServer()
    server.start()
    control = SandboxControl(server.description)
    control.outage(30)

    def refused() -> bool:
        try:
            httpx.get(f"{server.url}/sandbox/requests", timeout=5, trust_env=False)
        except httpx.ConnectError:
            return True
        except httpx.TransportError:
            pass
        return False

    while not refused():
        pass
    control.close()
    server.stop()


def test_outage_that_ended_leaves_the_server_as_it_was() -> None:
    server = SandboxServer(organizations=3)
    server.start()
    control = SandboxControl(server.description)
    control.outage(0)

    def count() -> int | None:
        try:
            return int(control.api("GET", "/organizations")["total_count"])
        except OSError:
            return None

    while (found := count()) is None:
        pass
    assert found == 3
    control.close()
    server.stop()
