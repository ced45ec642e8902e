"""Forks of the process: what was made before one does not work in the child."""

from __future__ import annotations

import os

# Incremented in each forked child.
_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


def forks() -> int:
    """How many forks are between this process and the one that first imported the package."""
    return _forks
