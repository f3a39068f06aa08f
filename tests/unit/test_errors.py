"""Errors as they cross a process border, and the tree that explains them."""

from __future__ import annotations

import pytest

from boostline import errors
from boostline.errors import BoostlineError, FailError, RetryError

CLASSES = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, BoostlineError)]


@pytest.mark.parametrize("kind", [item for item in CLASSES if item is not BoostlineError])
def test_an_error_is_the_same_on_the_other_side_of_a_process_border(kind: type[BoostlineError]) -> None:
    found = BoostlineError.from_dict(kind("no file", "Land one").to_dict())
    assert (type(found), found.message, found.remedy) == (kind, "no file", "Land one")


@pytest.mark.parametrize(("retry", "kind"), [(True, RetryError), (False, FailError)])
def test_an_error_of_an_unknown_class_is_retried_as_it_says(retry: bool, kind: type[BoostlineError]) -> None:
    assert type(BoostlineError.from_dict({"class": "Unheard", "retry": retry, "message": "no"})) is kind


def test_every_error_is_in_the_tree() -> None:
    lines = str(errors.__doc__).splitlines()
    for kind in CLASSES:
        assert any(kind.__name__ in line.split() for line in lines)
