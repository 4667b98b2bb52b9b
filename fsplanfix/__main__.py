"""Where the program starts: gevent patches the standard library before any other import."""

from gevent import monkey

monkey.patch_all()

from .cli import cli  # noqa: E402


def main() -> None:
    """Run the command line."""
    cli()


if __name__ == "__main__":
    main()
