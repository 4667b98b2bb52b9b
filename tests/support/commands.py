"""The commands, as an administrator runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from unittest.mock import patch

import pytest

from fsplanfix.cli import cli

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


def call_cli(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command within this process, which saves the second that a program takes to start.

    For what a command says; how it starts, is interrupted and ends is for `run_cli`.
    """
    written = BytesIO(), BytesIO()
    out, errors = (TextIOWrapper(kept, encoding="utf-8", write_through=True) for kept in written)
    with (
        patch.dict(os.environ, environment(COLUMNS="80", **env), clear=True),
        chdir(folder),
        redirect_stdout(out),
        redirect_stderr(errors),
        pytest.raises(SystemExit) as end,
    ):
        cli.main(words, prog_name="fsplanfix")
    code = end.value.code
    assert isinstance(code, int)
    texts = [kept.getvalue().decode() for kept in written]
    return subprocess.CompletedProcess(words, code, *texts)
