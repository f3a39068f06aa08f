"""How often one caller may ask: a token bucket for each.

The library `limits` keeps its counts in memory with a new thread every 10 ms, which took longer than a prediction.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

CALLERS = 10_000
"""Callers that are remembered; beyond that the one who asked least recently starts anew."""


def rate_limit(per_second: int, clock: Callable[[], float] = time.monotonic) -> Callable[[str], int]:
    """A limit with room for one second's requests at once.

    Returns:
        A function of the caller's name: 0 where the request may pass, else in how many seconds the next one may.
    """
    rooms: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(caller: str) -> int:
        now = clock()
        room, before = rooms.get(caller, (float(per_second), now))
        room = min(float(per_second), room + (now - before) * per_second)
        passes = room >= 1
        rooms[caller] = (room - 1 if passes else room, now)
        rooms.move_to_end(caller)
        if len(rooms) > CALLERS:
            rooms.popitem(last=False)
        return 0 if passes else max(1, math.ceil((1 - room) / per_second))

    return wait
