"""What a person is told of troubles, and when."""

from fsplanfix.alerts.book import LONGEST_LINE, PAUSE, Book, one_line, read

AT = 1_795_687_200.0  # 2026-11-26 10:00 UTC
LINK = {"link a": "a is not linked"}
TOKEN = {"token": "the token is not known"}


def tell(book: Book, now: float) -> str:
    """What is told now, "" for nothing."""
    if not book.due(now):
        return ""
    alert = book.alert("pbx1")
    book.told(alert, now)
    return alert.line


def test_an_alarm_is_told_when_it_begins_and_when_it_ends() -> None:
    book = Book()
    for n in range(3):
        book.see(LINK, set(), AT + n)
    begins = "fsplanfix on pbx1: a is not linked (since 2026-11-26 10:00 UTC)"
    assert tell(book, AT + 3) == f"{begins}. fsplanfix check says more."
    book.see(LINK, set(), AT + 1000)
    assert not book.due(AT + 1000)
    book.see({}, set(), AT + 1020)
    ends = "over: a is not linked (2026-11-26 10:00 UTC to 2026-11-26 10:17 UTC)"
    assert ends in tell(book, AT + 1020)
    assert not book.due(AT + 10_000)


def test_what_comes_within_five_minutes_is_told_together() -> None:
    book = Book()
    book.see(LINK, set(), AT)
    assert tell(book, AT)
    for n in range(4):
        book.see(TOKEN if n % 2 else {}, set(), AT + 10 + n)
    book.see(TOKEN, set(), AT + PAUSE - 1)
    assert tell(book, AT + PAUSE - 1) == ""
    line = tell(book, AT + PAUSE)
    assert "over: a is not linked" in line
    assert "the token is not known (since 2026-11-26 10:00 UTC, 2 times)" in line
    assert tell(book, AT + 2 * PAUSE) == ""


def test_what_nobody_can_judge_stays_as_it_is() -> None:
    book = Book()
    book.see(LINK, set(), AT)
    tell(book, AT)
    book.see({}, {"link a", "link b"}, AT + PAUSE)
    assert not book.due(AT + PAUSE)
    book.see(LINK, set(), AT + PAUSE)
    assert not book.due(AT + PAUSE)


def test_a_clock_that_was_set_back_silences_nothing() -> None:
    book = Book(told_at=AT + 10**9)
    book.see(LINK, set(), AT)
    assert tell(book, AT)


def test_what_changes_while_an_alert_is_on_its_way_is_told_later() -> None:
    book = Book()
    book.see(LINK, set(), AT)
    alert = book.alert("pbx1")
    book.see({}, set(), AT + 5)
    book.told(alert, AT + 6)
    assert "over: a is not linked" in tell(book, AT + 6 + PAUSE)


def test_a_book_is_read_back_as_it_was_written() -> None:
    book = Book(owner="me", until=AT, partners={"default": "https://example.planfix.com"})
    book.see(LINK | TOKEN, set(), AT)
    tell(book, AT)
    book.see(LINK, set(), AT + 1)
    assert read(book.dump()) == book
    assert read("") == read("{broken") == Book()


def test_programs_get_each_change_by_its_name() -> None:
    book = Book()
    book.see(LINK | TOKEN, set(), AT)
    book.see(LINK, set(), AT + 60)
    posted = book.alert("pbx1").as_json()
    assert posted["text"].startswith("fsplanfix on pbx1: ")
    link, token = posted["changes"]
    assert link == {
        "alarm": "link a",
        "state": "on",
        "what": "a is not linked",
        "since": "2026-11-26T10:00:00Z",
        "until": None,
        "times": 1,
    }
    assert (token["state"], token["until"]) == ("over", "2026-11-26T10:01:00Z")


def test_a_line_stays_one_line_of_a_length_that_can_be_sent() -> None:
    assert one_line("a\nb\x1b[2J\0c") == "a?b?[2J?c"
    assert len(one_line("x" * 10_000)) == LONGEST_LINE
