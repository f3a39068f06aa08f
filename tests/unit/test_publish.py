"""One manifest, many writers: exactly one wins, the others know it, and nobody deletes anything."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from boostline.errors import StoreUnavailable, Superseded
from boostline.lake.manifest import Manifest, Ref, publish, read_current, read_ref
from boostline.lake.store import Store
from boostline.settings import Settings

WRITERS = 16


def manifest(attempt: str, fingerprint: str = "f" * 64, **more: Any) -> Manifest:
    return Manifest(stage="clean", dataset="meters", table="readings", partition="2024-03-10", attempt=attempt,
                    fingerprint=fingerprint, inputs={}, files=[], rows={"rows": 1}, columns={}, row_hash="0", **more)  # fmt: skip


def race(store: Store, manifests: list[Manifest], *expected: str | None) -> list[Ref | Superseded]:
    """Publish all at once; each has seen one of the ETags, in this order, and those that are left the last."""
    barrier = Barrier(len(manifests))
    seen = [*expected, *[expected[-1]] * (len(manifests) - len(expected))]

    def write(item: Manifest, etag: str | None) -> Ref | Superseded:
        barrier.wait()
        try:
            return publish(store, item, etag)
        except Superseded as error:
            return error

    with ThreadPoolExecutor(len(manifests)) as pool:
        return list(pool.map(write, manifests, seen))


def current(store: Store) -> tuple[Manifest, str]:
    found = read_current(store, "clean", "meters", "readings", "2024-03-10")
    assert found
    return found


@pytest.mark.parametrize("first", [True, False])
def test_of_sixteen_writers_with_different_inputs_one_wins(store: Store, first: bool) -> None:
    expected = None if first else publish(store, manifest("before"), None).etag
    answers = race(store, [manifest(f"a{n}", fingerprint=f"{n:064}") for n in range(WRITERS)], expected)
    winners = [answer for answer in answers if isinstance(answer, Ref)]
    assert len(winners) == 1 and Counter(map(type, answers))[Superseded] == WRITERS - 1
    assert current(store)[0].attempt == winners[0].attempt
    assert all(winners[0].attempt in str(answer) for answer in answers if isinstance(answer, Superseded))
    own = [item for item in store.list("clean/meters/attempts/") if "/manifests/" in item.key]
    assert len(own) == WRITERS + (0 if first else 1), "the losers' own manifests stay for inspection"


def test_of_sixteen_writers_the_one_that_saw_an_older_manifest_never_wins(store: Store) -> None:
    older = publish(store, manifest("older", fingerprint="o" * 64), None).etag
    newer = publish(store, manifest("newer", fingerprint="n" * 64), older).etag
    zombie, *others = race(store, [manifest(f"a{n}", fingerprint=f"{n:064}") for n in range(WRITERS)], older, newer)
    assert isinstance(zombie, Superseded)
    (winner,) = [answer for answer in others if isinstance(answer, Ref)]
    assert current(store)[0].attempt == winner.attempt


def test_of_sixteen_writers_with_the_same_inputs_all_hand_on_the_winner(store: Store) -> None:
    answers = race(store, [manifest(f"a{n}") for n in range(WRITERS)], None)
    assert {answer.attempt for answer in answers if isinstance(answer, Ref)} == {current(store)[0].attempt}
    assert len(answers) == WRITERS and not any(isinstance(answer, Superseded) for answer in answers)


def test_a_revived_zombie_cannot_overwrite_newer_work(store: Store) -> None:
    zombie_saw = publish(store, manifest("old", fingerprint="1" * 64), None).etag
    newer = publish(store, manifest("newer", fingerprint="2" * 64), zombie_saw)
    with pytest.raises(Superseded, match="attempt newer published first"):
        publish(store, manifest("zombie", fingerprint="3" * 64), zombie_saw)
    with pytest.raises(Superseded):
        publish(store, manifest("zombie of an empty lake", fingerprint="3" * 64), None)
    assert current(store) == (read_ref(store, newer), newer.etag)


def test_a_manifest_that_was_deleted_meanwhile_is_not_replaced(store: Store) -> None:
    before = publish(store, manifest("before", fingerprint="1" * 64), None)
    store.delete([read_ref(store, before).current_key])
    with pytest.raises(Superseded, match="another run, which then removed it, published first"):
        publish(store, manifest("after", fingerprint="2" * 64), before.etag)


class LosesAnswers(Store):
    """Does what it is asked, then fails as if the answer had been lost; boto3 would send the request again."""

    def __init__(self, settings: Settings, resend: bool) -> None:
        super().__init__(settings)
        self.resend = resend

    def put_if(self, key: str, body: bytes, expected_etag: str | None) -> str:
        super().put_if(key, body, expected_etag)
        if not self.resend:
            raise StoreUnavailable("the answer was lost", "Try again")
        return super().put_if(key, body, expected_etag)


def test_a_lost_answer_is_recognised_as_our_own_write(store: Store) -> None:
    ref = publish(LosesAnswers(store.settings, resend=True), manifest("ours"), None)
    assert (ref.attempt, ref.etag) == ("ours", current(store)[1])


def test_after_a_lost_answer_the_retry_adopts_what_was_written(store: Store) -> None:
    with pytest.raises(StoreUnavailable):
        publish(LosesAnswers(store.settings, resend=False), manifest("first try"), None)
    assert publish(store, manifest("second try"), None).attempt == "first try"


def test_an_experiment_is_read_by_reference_only(store: Store) -> None:
    ref = publish(store, manifest("experiment"), None, to_current=False)
    assert read_ref(store, ref).attempt == "experiment"
    assert read_current(store, "clean", "meters", "readings", "2024-03-10") is None
