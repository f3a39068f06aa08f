"""Which regular expressions a dataset file may hold."""

from __future__ import annotations

import string
from itertools import product

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from boostline.dataset.pattern import check_pattern, portable_pattern


@pytest.mark.parametrize(("pattern", "portable"), [("a$", r"a\z"), (r"a\$", r"a\$"), ("[$]+", "[$]+"), ("^a", "^a")])
def test_a_closing_dollar_means_the_very_end(pattern: str, portable: str) -> None:
    if pattern != "[$]+":
        check_pattern(pattern)
    assert portable_pattern(pattern) == portable


@pytest.mark.parametrize("pattern", ["a{99999999999999999999}", "(" * 5000 + "a" + ")" * 5000], ids=["count", "depth"])
def test_what_python_cannot_compile_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="is no regular expression"):
        check_pattern(pattern)


@pytest.mark.parametrize("pattern", ["a{1001}", "a{2,1001}", "a{1001,}", "(a{100}){11}"])
def test_what_arrow_has_no_room_for_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="repeats more than 1,000 times"):
        check_pattern(pattern)
    with pytest.raises(pa.ArrowInvalid, match="invalid repetition size"):
        pc.replace_substring_regex(pa.array(["a"]), pattern, "")
    check_pattern("(a{100}){10}")


@pytest.mark.parametrize("pattern", [r"\0", r"[\01]", r"\u00e4", r"\U000000e4", r"\N{DIGIT ONE}"])
def test_escapes_that_only_some_engines_have_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"uses \\0, \\u, \\U or \\N \(write \\x41 for A\), which Spark and Arrow"):
        check_pattern(pattern)


def test_arrow_compiles_every_escape_that_is_let_through() -> None:
    more = ("", "1", "41", "0041", "00000041", "{41}", "{DIGIT ONE}")
    compiled = set()
    for letter, rest, form in product(string.ascii_letters + string.digits, more, ("{}", "[{}]")):
        pattern = form.format(f"\\{letter}{rest}")
        try:
            check_pattern(pattern)
        except ValueError:
            continue
        pc.replace_substring_regex(pa.array(["a"]), portable_pattern(pattern), "")
        compiled.add(letter)
    assert compiled == set("adfnrtx")


@pytest.mark.parametrize("pattern", [r"\s+", "a*", ".+", "(?i)a", r"(a)\1", "a++", "[a&&b]", "é", "(", "a$b", "x|"])
def test_what_engines_read_differently_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="replace:"):
        check_pattern(pattern)


@pytest.mark.parametrize("pattern", ["ab{,5}", "a{x}", "a{", "{", "a{1,2"])
def test_a_brace_that_begins_no_count_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"begins no count.*write \[\{\]"):
        check_pattern(pattern)
    check_pattern("[{]a{1,2}b{2,}c{3}")
