"""Prints what Planfix would be told, for `replay` and `history --dry-run`."""

from __future__ import annotations

import json
from collections.abc import Iterable

from ..admin import timeline
from ..calls.model import MICROSECONDS, Notice
from ..calls.whose import AccountRules
from ..planfix.forms import build_form, sent
from ..recordings.urls import RecordingUrls
from .root import say


def show_requests(notices: Iterable[Notice], as_json: bool, rules: AccountRules) -> bool:
    """Print the requests for notices, a header before each call; return whether there were any.

    as_json: one JSON object for each request, in its fixed form. rules: those of each account; if
    there are several, each request is shown with its own.
    """
    # the same key each time: the same calls give the same output
    urls = RecordingUrls("http://127.0.0.1:8080", ["replay"])
    callid = ""
    requests = sent(list(notices))
    for notice in requests:
        fields = build_form(notice, urls.url)
        if len(rules) > 1:
            fields |= {"account": notice.account}
        if as_json:
            say(json.dumps(fields, ensure_ascii=False))
            continue
        at = notice.at / MICROSECONDS
        if notice.callid != callid:
            callid = notice.callid
            head = timeline.header({**fields, "type": notice.type, "phone": notice.phone})
            say(f"{head}  [{notice.account}]" if len(rules) > 1 else head)
            say(f"  {timeline.day(at)}")
        say(timeline.line(fields, at))
    return bool(requests)
