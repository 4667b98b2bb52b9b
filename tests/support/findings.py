"""What `fsplanfix check` finds."""

from fsplanfix.admin.findings import Finding, Grade

TOKEN = "0123456789abcdef"


def says(findings: list[Finding], grade: int, what: str) -> Finding:
    (one,) = [finding for finding in findings if what in finding.what]
    assert one.grade == grade, one
    assert bool(one.hint) == (grade != Grade.OK), one
    return one
