"""The regular expressions that Spark (Java) and Arrow (RE2) read alike."""

from __future__ import annotations

import math
import re

MOST_REPEATS = 1000
"""RE2's own limit."""


def check_pattern(pattern: str) -> None:
    """Refuse regular expressions whose meaning differs between Java (Spark) and RE2 (Arrow).

    Raises:
        ValueError: Says which construct is outside the common subset.
    """
    body = pattern.removesuffix("$") if not pattern.endswith("\\$") else pattern
    for construct, name in (
        (r"(?<!\\)\(\?", "(?...) groups"),
        (r"\\[1-9]", "back-references"),
        (r"\\[sSwWbBDAZzpPhvRX]", "\\s, \\w, \\b, \\D and the like; write the characters, as in [ \\t]"),
        (r"\\[0uUN]", "\\0, \\u, \\U or \\N (write \\x41 for A)"),
        (r"(?<!\\)\$", "$ before the end"),
        (r"[*+?}]\+", "possessive quantifiers"),
        (r"&&", "&&"),
        (r"\[[^\]]*\[", "[ within a set"),
        (r"[^\x20-\x7e]", "characters beyond ASCII"),
    ):
        if re.search(construct, body):
            raise ValueError(f"replace: {pattern!r} uses {name}, which Spark and Arrow read differently")
    outside = re.sub(r"\[[^\]]*\]", "", body)
    if re.search(r"(?<!\\)\.", outside):
        raise ValueError(f"replace: {pattern!r} uses `.`; write a set such as [^,] instead")
    if re.search(r"(?<!\\)\{(?!\d+(,\d*)?\})", outside):
        raise ValueError(f"replace: {pattern!r} has a {{ that begins no count, which Spark refuses; write [{{]")
    try:
        compiled = re.compile(body)
    except (re.error, OverflowError, RecursionError) as error:  # a huge repeat count; groups within groups
        raise ValueError(f"replace: {pattern!r} is no regular expression: {error}") from error
    # RE2 multiplies what is nested; here all of a pattern's counts are taken for nested.
    counts = re.findall(r"\{(?:\d+,)?(\d+),?\}", body)
    if math.prod(map(int, counts)) > MOST_REPEATS:
        raise ValueError(f"replace: {pattern!r} repeats more than {MOST_REPEATS:,} times, which Arrow refuses")
    if compiled.match(""):
        raise ValueError(f"replace: {pattern!r} matches the empty text")


def portable_pattern(pattern: str) -> str:
    """The pattern as both engines read it: Java's `$` would also match before a closing line break."""
    ends = pattern.endswith("$") and not pattern.endswith("\\$")
    return pattern[:-1] + r"\z" if ends else pattern
