"""The tree of errors. Each message is one sentence that an administrator can act on."""


class FsplanfixError(Exception):
    """Any failure with a message meant for the user; never shown as a traceback."""


class SettingsError(FsplanfixError):
    """Settings are missing or wrong.

    problems: one sentence for each. hint: what may help with all of them, "" if nothing is known.
    """

    def __init__(self, problems: list[str], hint: str = "") -> None:
        super().__init__("\n".join([*problems, hint] if hint else problems))
        self.problems = problems
        self.hint = hint


class TraceError(FsplanfixError):
    """A recorded call (a trace file) cannot be read."""


class RecordError(FsplanfixError):
    """A call detail record cannot be used; the message says what is wrong with it."""


class FolderError(FsplanfixError):
    """A folder cannot be read."""


class StoreError(FsplanfixError):
    """The database cannot be opened or used.

    permanent: it refuses this content and always will; otherwise another try may help.
    """

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class GivenUp(FsplanfixError):
    """The store did not answer before the service must end."""


class PortTakenError(FsplanfixError):
    """A listening address is already in use or not ours."""


class LinkError(FsplanfixError):
    """The event socket cannot be used now; another try may help.

    problem: what is wrong. hint: how to fix it, "" if that is not known. The text has both.
    """

    def __init__(self, problem: str, hint: str = "") -> None:
        end = "" if hint.endswith("?") else "."
        super().__init__(f"{problem}: {hint}{end}" if hint else problem)
        self.problem = problem
        self.hint = hint


class LinkDown(LinkError):
    """The connection to FreeSWITCH is not there, or ended while an answer was awaited."""


class LinkTimeout(LinkError):
    """FreeSWITCH did not answer within the allowed time."""


class LoginRefused(LinkError):
    """FreeSWITCH refused the password or our address (ACL)."""


class UnsafeCommand(LinkError):
    """A command carried a newline or a NUL and was not sent."""


class RecordingUnknown(FsplanfixError):
    """A link does not lead to a recording of ours."""

    def __init__(self) -> None:
        super().__init__("There is no such recording.")


class RecordingRefused(RecordingUnknown):
    """A file that will never be served; the message says why."""

    def __init__(self, reason: str) -> None:
        FsplanfixError.__init__(self, reason)


class RecordingGone(FsplanfixError):
    """A recording was deleted when its time was over."""

    def __init__(self) -> None:
        super().__init__("This recording was deleted after RECORDINGS_KEEP_DAYS.")


class BucketError(FsplanfixError):
    """A bucket does not keep a recording now; another try may help. code: its own word, or ""."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class TransportError(FsplanfixError):
    """A request to Planfix was not accepted.

    permanent: it never will be (400); otherwise another try may help.
    unauthorized: Planfix does not accept our token (401).
    retry_after: seconds that Planfix asks us to wait before any other request (429, 503), else 0.
    """

    def __init__(
        self,
        message: str,
        *,
        permanent: bool = False,
        unauthorized: bool = False,
        retry_after: float = 0,
    ) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.unauthorized = unauthorized
        self.retry_after = retry_after


class DialRefused(FsplanfixError):
    """A call that must not be placed; the message says why, for the person who clicked."""
