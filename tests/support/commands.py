"""A command of ours, run as a program of its own, as an administrator runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .service import environment


def run_cli(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fsplanfix", *words],
        check=False,
        cwd=folder,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=60,
    )
