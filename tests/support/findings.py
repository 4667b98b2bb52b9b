"""What `fsplanfix check` finds."""

from fsplanfix.admin.findings import Finding, Grade

TOKEN = "0123456789abcdef"


def says(findings: list[Finding], grade: int, what: str) -> Finding:
    (one,) = [finding for finding in findings if what in finding.what]
    assert one.grade == grade, one
    # i says what could be better: it has a hint, as a warning has
    assert one.mark == "✓!✗"[grade] or (one.mark, grade) == ("i", Grade.OK), one
    assert bool(one.hint) == (one.mark != "✓"), one
    # what to do is said once
    assert not one.hint or one.hint not in one.what, one
    return one
