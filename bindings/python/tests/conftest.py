"""Runs against the installed package and a real merged proxy.

The proxy's binary is `$ROCKETMQ_THIN_PROXY`, or the one that cargo built last.
"""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
_numbers = itertools.count(1)


def binary():
    if path := os.environ.get("ROCKETMQ_THIN_PROXY"):
        return path
    built = [ROOT / "target" / profile / "rocketmq-thin-proxy" for profile in ("release", "debug")]
    return max((path for path in built if path.exists()), key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The address of a proxy."""
    command = [binary(), "--listen", "127.0.0.1:0", "--data-dir", tmp_path_factory.mktemp("data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        try:
            yield proxy.stdout.readline().removeprefix("listening on ").strip()
        finally:
            proxy.kill()


@pytest.fixture
def name():
    """A topic or group that no other test uses."""
    return f"python-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def script(server, name):
    """Runs a program in a Python of its own, with `SERVER` and `NAME` set; gives the running process."""
    started = []

    def run(text, **options):
        prelude = f"SERVER, NAME = {server!r}, {name!r}\n"
        process = subprocess.Popen(
            [sys.executable, "-c", prelude + text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()
