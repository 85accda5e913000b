"""Carries out the instructions of the Dockerfile in a folder, without a container engine.

The folder stands for the root of the image: `/app` and `/venv` of an instruction are folders in it. Python is
this machine's, and `useradd` is left out, because it would change this machine. An instruction that this
module does not know is an error, so that the Dockerfile and its rehearsal stay the same.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
IMAGE_PATHS = re.compile(r"(?<![\w./-])/(app|venv)(?![\w-])")
OF_THE_MACHINE = re.compile(r"HOME|LANG|PIP_\w+|\w+_proxy|\w+_PROXY|SSL_CERT_FILE|REQUESTS_CA_BUNDLE")
"""What a build may inherit: how to reach the package index, and no setting of the project."""


@dataclass
class Image:
    """The folder, and what the final stage says about its processes."""

    root: Path
    python: Path
    env: dict[str, str] = field(default_factory=dict)
    workdir: Path = Path("/")
    user: str = "root"
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    stop_signal: str = ""

    def place(self, text: str) -> str:
        """Return the text with the image's paths inside the folder."""
        return IMAGE_PATHS.sub(lambda found: f"{self.root}/{found[1]}", text)

    def build(self) -> None:
        """Carry out every instruction."""
        for verb, rest in instructions(PROJECT / "Dockerfile"):
            getattr(self, f"_{verb.lower()}")(rest)

    def _from(self, rest: str) -> None:
        self.env = {"PATH": f"{self.python.parent}:{os.environ['PATH']}"}

    def _env(self, rest: str) -> None:
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            self.env[name] = self.place(value).replace("$PATH", self.env["PATH"])

    def _workdir(self, rest: str) -> None:
        self.workdir = Path(self.place(rest))

    def _copy(self, rest: str) -> None:
        *sources, target = rest.split()
        if sources[0].startswith("--from="):
            assert sources[1:] == [target], f"COPY {rest} would move files, which this module cannot do"
            return
        place = Path(self.place(target))
        for source in sources:
            found = PROJECT / source
            if found.is_dir():
                shutil.copytree(found, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(found, place)

    def _run(self, rest: str) -> None:
        if rest.startswith("useradd "):
            return
        inherited = {name: value for name, value in os.environ.items() if OF_THE_MACHINE.fullmatch(name)}
        cwd = self.workdir if self.workdir.is_relative_to(self.root) else self.root
        command = ["sh", "-euc", self.place(rest)]
        subprocess.run(command, cwd=cwd, env={**inherited, **self.env}, check=True)

    def _user(self, rest: str) -> None:
        self.user = rest

    def _cmd(self, rest: str) -> None:
        self.command = json.loads(rest)

    def _healthcheck(self, rest: str) -> None:
        self.healthcheck = json.loads(rest[rest.index("CMD") + 3 :])

    def _stopsignal(self, rest: str) -> None:
        self.stop_signal = rest

    def _expose(self, rest: str) -> None:
        pass


def instructions(dockerfile: Path) -> Iterator[tuple[str, str]]:
    """Yield verb and arguments of each instruction, continued lines joined."""
    lines = [line for line in dockerfile.read_text().splitlines() if line and not line.startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        verb, _, rest = line.partition(" ")
        yield verb, rest.strip()
