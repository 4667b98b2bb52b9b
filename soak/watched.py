"""The service as it is, and beside it a greenlet that writes down how many greenlets there are."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import gc  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import gevent  # noqa: E402

from fsplanfix.__main__ import main  # noqa: E402

COUNTED_IN = Path("greenlets")
"""In the program's folder."""


def count(every: float) -> None:
    """Count the greenlets every so many seconds; gevent keeps no number of them.

    Those that begin before the service is ready are frozen then, and not among them.
    """
    while True:
        alive = sum(
            isinstance(thing, gevent.Greenlet) and not thing.dead for thing in gc.get_objects()
        )
        COUNTED_IN.write_text(str(alive))
        gevent.sleep(every)


if __name__ == "__main__":
    gevent.spawn(count, float(sys.argv.pop(1)))
    main()
