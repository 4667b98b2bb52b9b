"""Whose call it is, where a switch serves several companies (docs/call-rules.md, "Whose call").

A company is an account, with rules of its own. What a leg is read by before an account is named for
it is read again by that account's rules, until the first word is said of its call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..freeswitch.events import SwitchEvent
from .identity import counts_as, is_foreign
from .legs import LegBook
from .model import ACCOUNT, UNNAMED, Call, Direction, Leg, Role, Rules
from .numbers import Numbering
from .parties import PARTY_HEADERS, line_of, read_leg
from .unclaimed import Named, read

BY_VARIABLE, BY_LINE, BY_CONTEXT, BY_DOMAIN, BY_OTHER_DOMAIN = range(5)
"""What names an account, the strongest first."""

REMEMBERED_LINES = 10_000
"""Lines whose account need not be looked for again."""

_DIVERSION = "variable_planfix_diversion"


class _Lines:
    """Which account each line belongs to, all written by one numbering."""

    def __init__(self) -> None:
        self._whole: dict[str, str] = {}
        self._beginnings: dict[str, str] = {}
        self._lengths: list[int] = []

    def add(self, line: str, account: str) -> None:
        """Add a line, or a pattern with `*` at its end."""
        if not line.endswith("*"):
            self._whole[line] = account
            return
        self._beginnings[line[:-1]] = account
        self._lengths = sorted({len(beginning) for beginning in self._beginnings})

    def account_of(self, line: str) -> str:
        """Return the account of a line, "" if it is nobody's."""
        if line in self._whole:
            return self._whole[line]
        begun = (self._beginnings.get(line[:length], "") for length in self._lengths)
        return next(filter(None, begun), "")


class AccountRules(Mapping[str, Rules]):
    """The rules of each account, and which account a domain or a line names.

    shared: the rules for what no account is named for. is_one: there is one account, which is the
    settings themselves, and everything is read by its rules.
    """

    def __init__(self, rules: Mapping[str, Rules], shared: Rules | None = None) -> None:
        """Take the rules of several accounts, or without `shared` those of ACCOUNT alone."""
        self._rules = dict(rules)
        self.is_one = shared is None
        self.shared = shared or self._rules[ACCOUNT]
        self.is_narrowed = not self.is_one or self.shared.is_narrowed
        self._domains = {
            domain: name for name, own in self._rules.items() for domain in own.domains
        }

        self._lines: dict[Numbering, _Lines] = {}
        for name, own in self._rules.items():
            numbering = Numbering(own.country, own.area_code, own.number_rules)
            for line in own.lines:
                self._lines.setdefault(numbering, _Lines()).add(line, name)
        self._known_lines: dict[tuple[str, ...], str] = {}

    def __getitem__(self, account: str) -> Rules:
        return self._rules[account]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)

    def become(self, others: AccountRules) -> None:
        """Take the place of these rules, for whoever reads by them."""
        vars(self).update(vars(others))

    def of(self, account: str) -> Rules:
        """Return the rules of an account, the shared ones if it is none of ours."""
        return self._rules.get(account, self.shared)

    def tells_of(self, call: Call) -> bool:
        """Tell whether a call is one of our companies'."""
        return not self.is_narrowed or call.account in self._rules

    def account_of_domain(self, domain: str) -> str:
        """Return the account of a directory domain, "" if it is nobody's."""
        return self._domains.get(domain.lower(), "")

    def account_of_line(self, line: str) -> str:
        """Return the account of a line that was read already, "" if it is nobody's."""
        found = (lines.account_of(line) for lines in self._lines.values())
        return next(filter(None, found), "")

    def account_of_line_in(self, event: SwitchEvent, inbound: bool) -> str:
        """Return the account of the line in a CHANNEL_CREATE, as that account writes it."""
        if not self._lines:
            return ""
        first = "Caller-Destination-Number" if inbound else "Caller-Caller-ID-Number"
        key = (first, event.get(first), event.get("variable_sip_to_user") if inbound else "")
        if key not in self._known_lines:
            if len(self._known_lines) >= REMEMBERED_LINES:
                self._known_lines.clear()
            found = (
                lines.account_of(line_of(event, inbound, numbering))
                for numbering, lines in self._lines.items()
            )
            self._known_lines[key] = next(filter(None, found), "")
        return self._known_lines[key]

    @property
    def has_domains(self) -> bool:
        """Tell whether any account has a domain: lines alone say nothing of domains."""
        return bool(self._domains)


AnyRules = Rules | AccountRules
"""The rules of one company, or of each account."""


def all_rules(rules: AnyRules) -> AccountRules:
    """Return the rules of one company as those of an account."""
    return rules if isinstance(rules, AccountRules) else AccountRules({ACCOUNT: rules})


def unclaimed_by(rules: AccountRules, known: str) -> Iterator[tuple[Named, int]]:
    """Yield the calls of no account that were kept and still have none, the most frequent first."""
    for named, count in read(known):
        if not rules.account_of_line(named.line) and not rules.account_of_domain(named.domain):
            yield named, count


# which account an event names


def read_account(leg: Leg, event: SwitchEvent, rules: AccountRules) -> bool:
    """Read from an event which account a leg belongs to; return whether that is news.

    Nothing is read that a stranger chooses: no sip_to_host, no presence id.
    """
    if not rules.is_narrowed:
        return False

    by, account = _named(leg, event, rules)
    if by >= leg.account_by:
        return False
    leg.account_by, leg.account = by, account
    read_again(leg, account, rules)
    return True


def _named(leg: Leg, event: SwitchEvent, rules: AccountRules) -> tuple[int, str]:
    account = event.get("variable_planfix_account")
    if account:
        return BY_VARIABLE, account
    # with several accounts the line was looked for at the CREATE, as each of them writes it
    if leg.account_by > BY_LINE and leg.role is Role.OUTSIDE and leg.line and not leg.first:
        account = rules.account_of_line(leg.line)
        if account:
            return BY_LINE, account
    return _named_by_domain(leg.inbound, event, rules)


def _named_by_domain(inbound: bool, event: SwitchEvent, rules: AccountRules) -> tuple[int, str]:
    account = rules.account_of_domain(event.get("Caller-Context"))
    if account:
        return BY_CONTEXT, account

    domain = _domain(inbound, event).lower()
    account = rules.account_of_domain(domain)
    if account:
        return BY_DOMAIN, account
    if domain and rules.has_domains:
        return BY_OTHER_DOMAIN, f"@{domain}"
    return UNNAMED, ""


def _domain(inbound: bool, event: SwitchEvent) -> str:
    """Return the directory domain of a leg's user, "" if none is known."""
    own, called = event.get("variable_domain_name"), event.get("variable_dialed_domain")
    # a client's own leg says whom the dialplan rang for him (vanilla/unregistered_to_mobile)
    if inbound:
        return own or called
    # a phone rung as part of a group has the presence id alone (vanilla/group_support); what a
    # stranger writes into his From is one only on a leg that came in
    presence = event.get("variable_presence_id").rpartition("@")[2]
    return called or own or presence


# a leg, read by the rules of whose it is


def read_new_leg(event: SwitchEvent, rules: AccountRules, before: str) -> Leg:
    """Make the leg that a CHANNEL_CREATE announces.

    before: the account of the leg it was placed for, "" if that is not known.
    """
    if rules.is_one:
        return read_leg(event, rules.shared)

    inbound = event.get("Call-Direction") != "outbound"
    by, account = _named_by_domain(inbound, event, rules)
    if variable := event.get("variable_planfix_account"):
        by, account = BY_VARIABLE, variable
    leg = read_leg(event, rules.of(account or before))

    # only whoever reads the leg as an outside party's has a line on it
    may_have_line = by > BY_LINE and (leg.role is Role.OUTSIDE or not account)
    owner = rules.account_of_line_in(event, inbound) if may_have_line else ""
    if owner:
        his = read_leg(event, rules.of(owner))
        if his.role is Role.OUTSIDE:
            leg, by, account = his, BY_LINE, owner

    leg.account_by, leg.account, leg.read_for = by, account, account or before
    headers = {header: event.get(header) for header in PARTY_HEADERS}
    leg.first = {header: value for header, value in headers.items() if value}
    return leg


def account_of_channel(event: SwitchEvent, rules: AccountRules) -> str:
    """Return the account that a client's leg belongs to while it is in the dialplan, "" for none.

    A company that is a part of a switch has every call that is not named as another's.
    """
    leg = read_new_leg(event, rules, "")
    read_account(leg, event, rules)
    return leg.account or (ACCOUNT if rules.is_one else "")


def read_again(leg: Leg, account: str, rules: AccountRules) -> None:
    """Read a leg once more, by the rules of the account it turns out to belong to.

    A call's client stays one.
    """
    if leg.read_for == account or not leg.first:
        return
    again = read_leg(SwitchEvent.made_of(leg.first), rules.of(account))
    leg.read_for = account
    if leg.client_of and again.role is not leg.role:
        return

    leg.role, leg.ext, leg.is_trunk_user = again.role, again.ext, again.is_trunk_user
    leg.number, leg.line = again.number, again.line
    numbering = rules.of(account).numbering
    leg.diversion = numbering.normalize(leg.first.get(_DIVERSION, "")) or leg.diversion


def read_with(leg: Leg, other: Leg, rules: AccountRules) -> None:
    """Read a leg that no account is named for by the rules of whom it places or is bridged with."""
    account = other.account or other.read_for
    if account and not leg.account and not leg.calls:
        read_again(leg, account, rules)


# a call, named by its legs


def take_account(call: Call, leg: Leg, book: LegBook, rules: AccountRules) -> None:
    """Let a leg name the account of its call, until the first word is said.

    What nobody was named for is read by the account's rules from now on.
    """
    if call.position or leg.account_by >= call.account_by:
        if not rules.is_one and call.account and not is_foreign(call, leg):
            _read_for_call(call, [leg], rules.of(call.account), rules)
        return
    before = rules.of(call.account)
    call.account_by, call.account = leg.account_by, leg.account
    if not rules.is_one:
        legs = (book.get(uuid) for uuid in call.legs)
        _read_for_call(call, [found for found in legs if found is not None], before, rules)


def _read_for_call(call: Call, legs: Sequence[Leg], before: Rules, rules: AccountRules) -> None:
    """Read a call's own legs by the rules of its account, and what was made of them so far."""
    own = [leg for leg in legs if not is_foreign(call, leg)]
    if all(leg.read_for == call.account for leg in own):
        return

    exts = [counts_as(before, call, leg) for leg in own]
    for leg in own:
        read_again(leg, call.account, rules)
    after = rules.of(call.account)
    client = next((leg for leg in own if leg.client_of == call.callid), None)
    if client is not None and call.type is Direction.IN and not call.position:
        call.phone = client.number or (after.hidden_number if client.inbound else "")
        call.diversion = client.line
        for leg in own:
            call.diversion = leg.diversion or call.diversion

    for leg, ext in zip(own, exts, strict=True):
        _rename(call, ext, counts_as(after, call, leg), is_placed=not leg.inbound)


def _rename(call: Call, old: str, new: str, is_placed: bool) -> None:
    """Let an employee go by another ext in a call."""
    if old == new:
        return
    tried = [new if ext == old else ext for ext in call.tried]
    tried += [new] if is_placed and not old else []
    call.tried = [*filter(None, dict.fromkeys(tried))]

    for part in (*call.parts, *call.untold):
        part.ext = new if old and part.ext == old else part.ext
    for recording in call.recordings:
        recording.ext = new if old and recording.ext == old else recording.ext
    if old and old in call.ordinals:
        call.ordinals[new] = call.ordinals.pop(old)
