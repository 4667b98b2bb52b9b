"""The commands, as an administrator runs them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from unittest.mock import patch

import gevent
import pytest
import structlog
from gevent.fileobject import FileObject

from fsplanfix.cli import cli

from .forked import start
from .service import PATIENCE, environment


def run_program(folder: Path, *command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, which keeps what it writes and must come within PATIENCE."""
    return subprocess.run(
        command,
        check=False,
        cwd=folder,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def run_cli(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end as a process of its own."""
    (out, their_out), (errors, their_errors) = os.pipe(), os.pipe()
    process = start(words, folder, environment(**env), {1: their_out, 2: their_errors})
    os.close(their_out)
    os.close(their_errors)
    files = [FileObject(file, "r", encoding="utf-8") for file in (out, errors)]
    readers = [gevent.spawn(file.read) for file in files]
    try:
        code = process.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    texts = [reader.get() for reader in readers]
    for file in files:
        file.close()
    return subprocess.CompletedProcess(words, code, *texts)


def call_cli(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command within this process, which saves the second that a program takes to start.

    For what a command says; how it starts, is interrupted and ends is for `run_cli`.
    """
    written = BytesIO(), BytesIO()
    out, errors = (TextIOWrapper(kept, encoding="utf-8", write_through=True) for kept in written)
    with (
        environment_of(COLUMNS="80", **env),
        chdir(folder),
        redirect_stdout(out),
        redirect_stderr(errors),
        pytest.raises(SystemExit) as end,
        gevent.Timeout(PATIENCE, AssertionError(f"{words} did not end")),
    ):
        cli.main(words, prog_name="fsplanfix")
    # `check` silences the log of its process, which is that of the tests that follow
    structlog.reset_defaults()
    code = end.value.code
    assert isinstance(code, int)
    texts = [kept.getvalue().decode() for kept in written]
    return subprocess.CompletedProcess(words, code, *texts)


@contextmanager
def environment_of(**env: str) -> Iterator[None]:
    """Give this process the environment of a command, its time zone included."""
    try:
        with patch.dict(os.environ, environment(**env), clear=True):
            time.tzset()
            yield
    finally:
        time.tzset()
