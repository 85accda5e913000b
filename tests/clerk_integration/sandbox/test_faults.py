"""Faults on demand, latency and rate limits."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.sandbox import SandboxControl


@pytest.fixture
def http(sandbox: SandboxControl) -> Iterator[httpx.Client]:
    with sandbox.backend_client() as client:
        yield client


def _names(sandbox: SandboxControl) -> list[str]:
    return [row["name"] for row in sandbox.api("GET", "/organizations")["data"]]


def test_fault_drop_after_commit_changes_once_and_hangs_up(
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


def test_fault_rate_limit_says_when_to_come_back(sandbox: SandboxControl, http: httpx.Client) -> None:
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


def test_clear_faults_makes_the_instance_well_again(sandbox: SandboxControl, http: httpx.Client) -> None:
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
def test_fault_that_makes_no_sense_is_refused(sandbox: SandboxControl, fault: dict[str, object]) -> None:
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


def test_reset_drops_what_is_still_delayed(sandbox: SandboxControl, http: httpx.Client) -> None:
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
