"""Counts forks of the process: objects that were created before a fork do not work in the child."""

from __future__ import annotations

import os

# Incremented in each forked child.
_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


def fork_count() -> int:
    """Returns the number of forks between the process that first imported the package and this process."""
    return _forks
