"""What happened in a call, step by step: for `fsplanfix explain` and for the dashboard.

The rules are those of docs/call-rules.md. The stored events are played through them once more, so
that each notice stands behind the event that caused it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from ..calls.event_log import BY_RECORD, UNHEARD, UNTIL, unpacked
from ..calls.model import MICROSECONDS, Kind, Leg, Notice, Role, Status
from ..calls.tracker import Tracker
from ..calls.whose import AnyRules, all_rules
from ..freeswitch.events import SwitchEvent, moment
from ..outbox.archive import Archive
from ..outbox.records import LOOKED_UP, Queued
from ..settings.accounts import as_in_file


def N_(text: str) -> str:  # noqa: N802 - gettext's name
    """Return the text; pybabel finds it, and a `Voice` translates it later."""
    return text


@dataclass(frozen=True, slots=True)
class Voice:
    """How a story is told.

    say: translates an English text. clock: returns a time of day; its argument is in seconds since
    1970. name_cause: puts a hang-up cause into words. account: whose call it is: of another
    company's people nothing is told; "" if it is told to nobody.
    """

    say: Callable[[str], str]
    clock: Callable[[float], str]
    name_cause: Callable[[str], str]
    account: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened, or that Planfix was to be told.

    at: seconds since 1970. who: on whose side, "" if unknown. queued: the notice, None for an
    event. reason: the rule behind the notice. is_gap: nobody listened. is_note: a line of the
    journal.
    """

    at: float
    who: str
    text: str
    queued: Queued | None = None
    reason: str = ""
    is_gap: bool = False
    is_note: bool = False

    @property
    def is_trouble(self) -> bool:
        """Tell whether it is a line of the journal about something that went wrong."""
        return self.is_note and not self.text.startswith(NEWS)


NEWS = (LOOKED_UP, "click to call: the employee picked up")
"""How lines of the journal begin that tell of nothing wrong."""


HEARD = {
    "CHANNEL_PROGRESS": N_("rings"),
    "CHANNEL_PROGRESS_MEDIA": N_("rings (with sound)"),
    "CHANNEL_ANSWER": N_("picks up"),
    "CHANNEL_UNBRIDGE": N_("is no longer connected"),
    "CHANNEL_UUID": N_("goes on under another UUID"),
    "RECORD_START": N_("recording begins"),
    "RECORD_STOP": N_("recording ends"),
}
ORDINARY_END = "success-silence"
"""How FreeSWITCH calls the end of nearly every recording, with or without silence."""

RECORDED = {
    "success-maxtime": N_("as long as allowed"),
    "input-too-short": N_("too short, not kept"),
    "empty-file": N_("empty"),
}
"""Why FreeSWITCH ended a recording, in words."""

RINGING = ("CHANNEL_PROGRESS", "CHANNEL_PROGRESS_MEDIA", "CHANNEL_ANSWER")

CAUSES = {
    "ALLOTTED_TIMEOUT": N_("the time was over"),
    "ATTENDED_TRANSFER": N_("transfer after a consultation"),
    "BLIND_TRANSFER": N_("transfer"),
    "CALL_REJECTED": N_("declined"),
    "DESTINATION_OUT_OF_ORDER": N_("the destination is out of order"),
    "LOSE_RACE": N_("another phone was faster"),
    "NORMAL_CLEARING": N_("ordinary end"),
    "NORMAL_TEMPORARY_FAILURE": N_("temporary failure"),
    "NO_ANSWER": N_("nobody picked up"),
    "NO_ROUTE_DESTINATION": N_("no route leads there"),
    "NO_USER_RESPONSE": N_("the phone does not respond"),
    "ORIGINATOR_CANCEL": N_("the caller gave up, or the time was over"),
    "PICKED_OFF": N_("another phone took the call"),
    "SUBSCRIBER_ABSENT": N_("no such user"),
    "UNALLOCATED_NUMBER": N_("no such number"),
    "USER_BUSY": N_("busy"),
    "USER_NOT_REGISTERED": N_("no phone is on"),
}
"""FreeSWITCH's hang-up causes in words; others are shown as they are."""

REASONS: dict[tuple[str, str], str] = {
    ("1", "INCOMING"): N_("the phone rings"),
    ("2", "ACCEPTED"): N_("connected with the client, both have answered"),
    ("2", "Canceled"): N_("a colleague has the client"),
    ("3", "Canceled"): N_("the next phone rings"),
    ("3", "Missed"): N_("the call is over, nobody took it"),
    ("4", "Success"): N_("the talk is over"),
    ("5", "INCOMING"): N_("got the client without ringing"),
    ("6", "INCOMING"): N_("no phone rang, the call is shown all the same"),
    ("6", "ACCEPTED"): N_("talked without an ext or in a conference"),
    ("6", "Success"): N_("talked without an ext or in a conference"),
    ("6", "Missed"): N_("nobody was reached"),
    ("6", "Canceled"): N_("MISSED counts the call for a colleague"),
    ("7", "OUTGOING"): N_("the client is being called"),
    ("8", "ACCEPTED"): N_("connected with the client, both have answered"),
    ("10", "INCOMING"): N_("gets the client of an outgoing call"),
    ("13", "record"): N_("a final file of a talk"),
    ("18", "INCOMING"): N_(
        "the phone rang, the window opens now that it is known who takes the call"
    ),
    ("15", "Canceled"): N_("the client was through, how it went on is not known"),
}
"""Why a rule makes a notice, by the rule's number and the notice's kind or status."""


def steps(
    archive: Archive, rules: AnyRules, callid: str, voice: Voice, account: str = ""
) -> list[Step]:
    """Return the steps of a call in order, [] if nothing is stored of it. Raises StoreError.

    account: whose lines of the journal are told, "" for those of all. Another company's may name
    the caller as its own Planfix does: it was asked before the call turned out to be this one's.
    """
    said, noted = archive.about(callid)
    told = {_key(queued.notice): queued for queued in said}
    if said and not all_rules(rules).is_one:
        voice = replace(voice, account=said[0].notice.account)
    found = [*_played(unpacked(archive.heard(callid)), rules, told, voice)]

    # no stored event led to these
    talked = _talked_unseen(queued.notice for queued in said)
    for queued in told.values():
        reason = _reason(queued.notice.rule, queued.notice, voice, talked=talked)
        reason = _with_source(reason, queued.notice, voice)
        found.append(_told_step(queued, reason))

    for entry in noted:
        if account not in ("", entry.account):
            continue
        found.append(Step(entry.at, entry.ext, entry.what, is_note=True))
    return sorted(found, key=lambda step: step.at)


def _told_step(queued: Queued, reason: str) -> Step:
    notice = queued.notice
    return Step(notice.at / MICROSECONDS, notice.ext, "", queued, reason)


def _key(notice: Notice) -> tuple[str, str, int]:
    return notice.ext, notice.kind.value, notice.ordinal


def _played(
    events: list[SwitchEvent],
    rules: AnyRules,
    told: dict[tuple[str, str, int], Queued],
    voice: Voice,
) -> Iterator[Step]:
    """Play the events and yield a step for each, followed by the notices it caused.

    Those notices are taken out of `told`.
    """
    _ = voice.say
    tracker, marks = Tracker(rules), set[tuple[str, str]]()
    for event in events:
        if event.name == UNHEARD:
            yield Step(event.at / MICROSECONDS, "", _gap(event, events, voice), is_gap=True)

        # a leg is forgotten with its last event, and that one needs its name, too
        before = tracker.book.get(event.leg)
        notices = tracker.feed(event)
        leg = tracker.book.get(event.leg) or before
        if leg is not None and (text := _what(event, leg, tracker, marks, voice)):
            yield Step(event.at / MICROSECONDS, _who(leg, voice), text)

        marks.add((event.name, event.leg))
        talked = _talked_unseen(notices)
        for notice in notices:
            queued = told.pop(_key(notice), None)
            if queued is not None:
                # a notice that an older release stored names no rule
                rule = queued.notice.rule or notice.rule
                reason = _reason(rule, notice, voice, event, talked)
                reason = _with_source(reason, queued.notice, voice)
                yield _told_step(queued, reason)


def _gap(gap: SwitchEvent, events: list[SwitchEvent], voice: Voice) -> str:
    """Return a time in which nobody listened in words. events: those of the call."""
    _ = voice.say
    since, until = gap.at, moment(gap.get(UNTIL))
    text = _("unknown: the service was not listening from %(since)s to %(until)s")
    if any(event.get(BY_RECORD) and since <= event.at <= until for event in events):
        text = _(
            "the service was not listening from %(since)s to %(until)s; "
            "FreeSWITCH's records tell what happened"
        )
    return text % {
        "since": voice.clock(since / MICROSECONDS),
        "until": voice.clock(until / MICROSECONDS),
    }


def _who(leg: Leg, voice: Voice) -> str:
    _ = voice.say
    if leg.role is Role.GLUE:
        return _("helper leg")
    is_strange = voice.account and leg.account not in ("", voice.account)
    if is_strange and not leg.client_of:
        return _("outside")
    if leg.role is Role.HOUSE:
        return _("colleague")
    if leg.ext:
        return leg.ext
    if leg.client_of:
        return _("client")
    return leg.number or _("outside")


def _what(
    event: SwitchEvent, leg: Leg, tracker: Tracker, marks: set[tuple[str, str]], voice: Voice
) -> str:
    """Return an event in words, "" if it is of no interest to a person.

    marks: name and leg of the events before it.
    """
    _ = voice.say
    name, text = event.name, ""
    if name == "CHANNEL_CREATE":
        text = _("calls") if leg.inbound else _("is called")
        if leg.ignored:
            text += _(", marked planfix_ignore")
    elif name == "CHANNEL_BRIDGE":
        text = _connected(event, leg, tracker, voice)
    elif name == "CUSTOM":
        text = {
            "": _("leaves a message in a mailbox"),
            "add-member": _("joins the conference %(name)s"),
            "del-member": _("leaves the conference %(name)s"),
        }.get(event.get("Action"), "") % {"name": event.get("Conference-Name")}
    elif name in ("CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE"):
        # HANGUP_COMPLETE may come much later than HANGUP (docs/facts/freeswitch.md,
        # "Order of events"): the end is shown once
        is_shown = ("CHANNEL_HANGUP", leg.uuid) in marks
        if not is_shown:
            text = _hung_up(event, leg, marks, voice)
    elif name.startswith("RECORD_"):
        text = f"{_(HEARD[name])}: {event.get('Record-File-Path').rpartition('/')[2]}"
        if (cause := event.get("Record-Completion-Cause")) and cause != ORDINARY_END:
            shown = _(RECORDED[cause]) if cause in RECORDED else cause
            text += f" ({shown})"
    elif name in HEARD:
        text = _(HEARD[name])

    return text


def _hung_up(event: SwitchEvent, leg: Leg, marks: set[tuple[str, str]], voice: Voice) -> str:
    _ = voice.say
    cause = event.get("Hangup-Cause")
    if not cause:
        # FreeSWITCH names a cause for each hang-up: this one was made up afterwards
        return _("is gone: nobody heard its end (rule 15)")

    was_called = leg.role is Role.EMPLOYEE and not leg.inbound
    rang = any((name, leg.uuid) in marks for name in RINGING)
    text = _("hangs up: %(cause)s") % {"cause": voice.name_cause(cause)}
    if was_called and not rang:
        text += _(" (did not ring, so no window opened: rule 1)")
    return text


def _connected(event: SwitchEvent, leg: Leg, tracker: Tracker, voice: Voice) -> str:
    """Return a bridge in words; early media is not an answer (rule 2)."""
    _ = voice.say
    other = tracker.book.get(event.get("Other-Leg-Unique-ID") or event.get("Bridge-B-Unique-ID"))
    if other is None:
        return _("is connected with somebody")
    if Role.GLUE not in (leg.role, other.role) and not (leg.answered and other.answered):
        return _("hears the network's sound, not answered yet")
    return _("is connected with %(who)s") % {"who": _who(other, voice)}


def _talked_unseen(notices: Iterable[Notice]) -> bool:
    """Tell whether the client talked without an ext or in a conference (rule 6).

    That is known when the call is over, and told with the ends of the open offers.
    """
    return any(n.kind is Kind.ACCEPTED and n.rule == "6" for n in notices)


def _with_source(reason: str, notice: Notice, voice: Voice) -> str:
    """Return the reason of a notice, with where it is known from if nobody heard it happen."""
    _ = voice.say
    if not notice.afterwards:
        return reason
    source = _("told from FreeSWITCH's records (rule 19)")
    if not reason:
        return source
    return f"{reason}; {source}"


def _reason(
    rule: str,
    notice: Notice,
    voice: Voice,
    event: SwitchEvent | None = None,
    talked: bool = False,
) -> str:
    """Return the rule that decided, and why; "" if an older release did not store it.

    talked: the client had a talk that only rule 6 tells of.
    """
    _ = voice.say
    if rule == "9":
        # one reason for its four statuses: the hang-up cause tells them apart
        reason = _("ended unanswered")
        cause = event.get("Hangup-Cause") if event is not None else ""
        if cause:
            reason += f" ({_(cause)})"
    elif talked and (rule, notice.status) == ("6", Status.CANCELED):
        # MISSED counts only calls that nobody took
        reason = _("the client talked with somebody else")
    else:
        key = (rule, notice.status or notice.kind)
        reason = _(REASONS[key]) if key in REASONS else ""

    if not reason:
        return ""
    if voice.account:
        # of several companies, each has its settings in the file of accounts
        reason = as_in_file(reason)
    return _("rule %(number)s: %(reason)s") % {"number": rule, "reason": reason}
