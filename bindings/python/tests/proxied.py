"""The base class of tests that run the installed package against a real merged proxy.

`$ROCKETMQ_THIN_PROXY` is the path of the proxy's binary. Default: the binary that cargo has built last.
"""

import atexit
import functools
import itertools
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_numbers = itertools.count(1)


def _binary():
    if path := os.environ.get("ROCKETMQ_THIN_PROXY"):
        return path
    built = [ROOT / "target" / profile / "rocketmq-thin-proxy" for profile in ("release", "debug")]
    return max((path for path in built if path.exists()), key=lambda path: path.stat().st_mtime)


@functools.cache
def _server():
    data = tempfile.TemporaryDirectory()
    command = [_binary(), "--listen", "127.0.0.1:0", "--data-dir", data.name]
    proxy = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def stop():
        proxy.kill()
        proxy.communicate()
        data.cleanup()

    atexit.register(stop)
    return proxy.stdout.readline().removeprefix("listening on ").strip()


class Case(unittest.TestCase):
    def setUp(self):
        self.server = _server()
        # A topic or group that no other test uses.
        self.name = f"python-{os.getpid()}-{next(_numbers)}"

    def script(self, text):
        """Starts a program in a new Python process, with `SERVER` and `NAME` set. Returns the process."""
        # Background jobs of a shell ignore SIGINT, and their child processes inherit this.
        prelude = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        prelude += f"SERVER, NAME = {self.server!r}, {self.name!r}\n"
        command = [sys.executable, "-c", prelude + text]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process
