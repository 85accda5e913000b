"""The Grafana dashboard and the rules of Prometheus name metrics that the project exports."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

from config.request_metrics import NAMES
from tenants.monitoring import metrics
from tenants.monitoring.deployment_metrics import DATABASE_UP, DRIFT, GAUGES, REFUSED, RUNS

DEPLOY = Path(__file__).parents[3] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
DASHBOARD = DEPLOY / "grafana" / "tenants.json"

REQUESTS = {f"{NAMES[0]}_total", *(f"{NAMES[1]}_{part}" for part in ("bucket", "count", "sum"))}

OF_PROCESSES = [one for one in vars(metrics).values() if isinstance(one, Counter | Gauge | Histogram)]
OF_DEPLOYMENT = [DATABASE_UP[0], DRIFT[0], RUNS[0], *(name for name, _, _ in GAUGES)]


def exported() -> set[str]:
    names = {f"{REFUSED[0]}_total", *OF_DEPLOYMENT, *REQUESTS}
    for metric in OF_PROCESSES:
        [family] = metric.describe()
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
        names |= {f"{family.name}{ending}" for ending in endings}
    return names


def queries_of_dashboard() -> list[str]:
    dashboard: Any = json.loads(DASHBOARD.read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def queries_of_rules() -> list[str]:
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    return [rule["expr"] for rule in group["rules"]]


def metrics_in(queries: list[str]) -> Iterator[str]:
    for query in queries:
        without_text = re.sub(r'"[^"]*"', "", query)
        yield from re.findall(r"\b(?:clerk|tenants|django)_\w+", without_text)


@pytest.mark.parametrize("queries", [queries_of_dashboard(), queries_of_rules()], ids=["dashboard", "rules"])
def test_queries_name_metrics_that_are_exported(queries: list[str]) -> None:
    found = set(metrics_in(queries))

    assert found - exported() == set()
    assert len(found) > 10


def test_dashboard_shows_every_metric() -> None:
    shown = set(metrics_in(queries_of_dashboard()))
    parts_of_histograms = {name for name in exported() if name.endswith(("_sum", "_count", "_bucket"))}

    assert exported() - shown - parts_of_histograms == set()


def test_every_metric_has_a_help_text_and_no_label_of_an_id() -> None:
    for metric in OF_PROCESSES:
        [family] = metric.describe()
        assert family.documentation.endswith(".")
        assert not {"id", "tenant", "organization", "user"} & set(metric._labelnames)
    texts = [DATABASE_UP[1], REFUSED[1], DRIFT[1], RUNS[1], *(text for _, text, _ in GAUGES)]
    assert all(text.endswith(".") for text in texts)


def promtool(*arguments: str | Path) -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_are_right_and_fire_when_they_should() -> None:
    promtool("check", "rules", RULES)
    promtool("test", "rules", RULES.parent / "rules_test.yml")


def test_queries_of_the_dashboard_can_be_parsed(tmp_path: Path) -> None:
    rules = [
        {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries_of_dashboard())
    ]
    written = tmp_path / "queries.yml"
    written.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))

    promtool("check", "rules", written)
