"""The commands. Each failure is one sentence on stderr and an exit code, never a traceback."""

from . import calls, history, init, installing, queue, reload, running, unpair
from .root import cli

__all__ = ["calls", "cli", "history", "init", "installing", "queue", "reload", "running", "unpair"]
