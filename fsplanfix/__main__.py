"""Where the program starts: gevent patches the standard library before any other import."""

import gc
import sys

from gevent import monkey

monkey.patch_all()

# Imports and open calls are objects that stay. By Python's own thresholds collections walked
# through them for an eighth of a start, and for 0.3 s at a time with 10,000 open calls
# (docs/performance.md).
gc.set_threshold(10_000, 10, 10)
gc.disable()

from .cli import cli  # noqa: E402

gc.enable()


def main() -> None:
    """Run the command line."""
    # Threads read records. By Python's own 5 ms the main thread waited as long for each statement
    # of SQLite, which lets another thread in.
    sys.setswitchinterval(0.0005)
    cli()


if __name__ == "__main__":
    main()
