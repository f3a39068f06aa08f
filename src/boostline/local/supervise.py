"""`python -m boostline.local.supervise SERVICE…`: the supervisor's own process; started by `boostline.local.stack`."""

from __future__ import annotations

import logging
import sys

from boostline.local.services import services
from boostline.local.stack import make_stack
from boostline.local.supervisor import Supervisor


def main(names: list[str]) -> int:
    """Run the named services until told to stop; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stack = make_stack()
    error = Supervisor(stack, [service for service in services(stack) if service.name in names]).run()
    if error:
        logging.getLogger(__name__).error("%s", error)
    return 1 if error else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
