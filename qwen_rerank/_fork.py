"""Keeps the process from forking while something slow is opened; it knows nothing of what that is.

A child has only the thread that forked. What another one was about to import or to read into
OpenSSL stays locked in the child for ever.
"""

# Logging keeps its lock over a fork as well. Who registers last is asked first: loaded after this,
# it would hold that lock here while what is being opened, which logs, waits for it.
import logging  # noqa: F401
import os
import threading

__all__ = ["no_fork"]

no_fork = threading.RLock()
"""While one thread holds it, others wait before they fork."""

if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=no_fork.acquire, after_in_parent=no_fork.release, after_in_child=no_fork.release
    )
