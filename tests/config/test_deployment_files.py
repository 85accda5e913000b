"""The files with which the project is deployed, where no container engine is needed to check them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from config.settings import PROCRASTINATE_WORKER_DEFAULTS
from tests.config.processes import ROOT

UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_units_are_valid(tmp_path: Path) -> None:
    for unit in UNITS:
        installed = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE)
        (tmp_path / unit.name).write_text(installed)

    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *tmp_path.iterdir()],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (checked.returncode, checked.stderr) == (0, "")


def test_supervisors_wait_longer_than_a_graceful_stop_takes() -> None:
    from config import gunicorn

    graceful = max(gunicorn.graceful_timeout, PROCRASTINATE_WORKER_DEFAULTS["shutdown_graceful_timeout"])
    files = [ROOT / "compose.yaml", *UNITS]
    grace = re.findall(r"(?:stop_grace_period: |TimeoutStopSec=)(\d+)", "\n".join(map(Path.read_text, files)))

    assert len(grace) == 4
    assert min(map(int, grace)) > graceful


def test_image_contains_only_what_the_dockerfile_copies() -> None:
    copied = set(re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    names = {name for line in copied for name in line.split()}
    admitted = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))

    assert admitted == names
    assert not [name for name in names if "env" in name]
