"""The child process that evaluates PMML, `python -m boostline_jpmml`, and the documents that it is to have.

Nothing here knows Java or JPMML: questions go to the child as JSON lines, one at a time. A child that is late is killed,
since Java cannot be interrupted; the next question starts another one, which gets a document again once it is needed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any, cast

from pydantic_core import from_json, to_json

from boostline.serving.refusal import Refused
from boostline.serving.settings import ServeSettings
from boostline.serving.work import BODIES, Workers

log = logging.getLogger("boostline.serving")

PACKAGE = "jpmml_evaluator"
START_SECONDS = 60
MOST_MODELS = 100
LEAST_HEAP, HEAP_PER_BYTE = 128 * 1024**2, 16
"""In bytes, and per byte of documents: a document of 30 MB was read in 260 MB."""
INHERITED = ("PATH", "JAVA_HOME", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG")
"""All of the environment that the child gets: it reads strangers' documents, so it holds no secret."""
AGAIN = {"Retry-After": "1"}

Row = tuple[dict[str, Any] | None, str | None]
"""The results of a row, or why there are none."""


@dataclass(frozen=True)
class Deployed:
    """A document, and what Openscoring tells of it."""

    document: bytes
    about: dict[str, Any]


class Evaluator:
    """Deploys, evaluates, undeploys.

    Args:
        settings: Time for a question, and how many bytes all documents together may have: `max_body_bytes`.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.models: dict[str, Deployed] = {}
        self.workers = Workers(settings)
        """Not those that predict: whoever waits for this evaluator takes no room from them."""
        self._settings = settings
        self._turn = asyncio.Lock()
        self._child: Process | None = None
        self._held: set[str] = set()
        self._unfit = "" if find_spec(PACKAGE) else "the package jpmml-evaluator is not installed"

    def check(self) -> None:
        """Refuse, with 501, where there is nothing that could evaluate."""
        if self._unfit:
            raise Refused(
                501,
                f"PMML cannot be evaluated here: {self._unfit}",
                "pip install jpmml-evaluator (AGPL-3.0), have Java 11 or newer at JAVA_HOME, and start the service again",
            )

    def find(self, name: str) -> Deployed:
        """A deployed model.

        Raises:
            Refused: 404, there is none of that name.
        """
        if name not in self.models:
            raise Refused(404, f'Model "{name}" not found')
        return self.models[name]

    async def deploy(self, name: str, document: bytes) -> tuple[Deployed, bool]:
        """Deploy a document, in place of one of the same name.

        Returns:
            What is deployed now, and whether the name is new.

        Raises:
            Refused: 400 where it is no PMML that JPMML evaluates, 413 where there is no room for it, 503 where the child
                ended or took too long.
        """
        async with self._in_turn():
            others = [item for key, item in self.models.items() if key != name]
            size = len(document) + sum(len(item.document) for item in others)
            if size > self._settings.max_body_bytes or len(others) >= MOST_MODELS:
                raise Refused(
                    413,
                    f"all documents together may have {self._settings.max_body_bytes:,} bytes and be {MOST_MODELS}",
                    "Undeploy another one, or set BOOSTLINE_SERVE_MAX_BODY_BYTES",
                )
            about = await self._load(name, document)
            about["properties"] = {
                "created.timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "file.size": len(document),
                "file.md5sum": hashlib.md5(document, usedforsecurity=False).hexdigest(),
            }
            new = name not in self.models
            self.models[name] = deployed = Deployed(document, about)
            return deployed, new

    def undeploy(self, name: str) -> None:
        """Forget a document; the child does before it answers the next question.

        Raises:
            Refused: 404.
        """
        self.find(name)
        del self.models[name]

    async def evaluate(self, name: str, rows: list[dict[str, Any]]) -> list[Row]:
        """Evaluate rows one by one.

        Raises:
            Refused: 404; 413 where the answer is too large; 503 where the child ended or took too long.
        """
        self.find(name)
        async with self._in_turn():
            deployed = self.find(name)
            if name not in self._held:
                await self._load(name, deployed.document)
            found: list[Row] = await self._ask(do="evaluate", model=name, rows=rows)
            return found

    async def close(self) -> None:
        """End the child, and the threads."""
        if child := self._child:
            self._end()
            await child.wait()
        self.workers.close()

    async def _load(self, name: str, document: bytes) -> dict[str, Any]:
        encoded = base64.b64encode(document).decode()
        found: dict[str, Any] = await self._ask(do="deploy", model=name, document=encoded)
        self._held.add(name)
        return found

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        """The child's attention, for a bounded time; it is started where none runs."""
        seconds = self._settings.timeout_seconds
        late = Refused(503, f"evaluating took longer than {seconds:g} s", "Send fewer rows in a request", AGAIN)
        try:
            async with asyncio.timeout(seconds):
                await self._turn.acquire()
        except TimeoutError:
            raise late from None
        try:
            if self._child is None or self._child.returncode is not None:
                await self._start()
            async with asyncio.timeout(seconds):
                for gone in self._held - self.models.keys():
                    self._held.remove(gone)
                    await self._ask(do="undeploy", model=gone)
                yield
        except TimeoutError:
            raise late from None
        finally:
            self._turn.release()

    async def _start(self) -> None:
        self.check()
        if self._child:
            log.warning("the evaluator had ended, exit code %s", self._child.returncode)
        self._held.clear()
        # Nothing is imported from the folder that the service happens to run in (-P).
        self._child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "boostline_jpmml"),
            str(max(LEAST_HEAP, HEAP_PER_BYTE * self._settings.max_body_bytes)),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env={name: os.environ[name] for name in INHERITED if name in os.environ},
            limit=BODIES * self._settings.max_body_bytes,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                answer = await self._answer()
        except (TimeoutError, Refused):
            raise Refused(
                503, "the evaluator does not start", "See that Java does: JAVA_HOME says which", AGAIN
            ) from None
        self._unfit = answer.get("unfit", "")
        self.check()
        log.info("evaluator started, process %d", self._child.pid)

    async def _ask(self, **question: Any) -> Any:
        answer = await self._answer(await self.workers.run(to_json, question))
        if "refused" in answer:
            raise Refused(400, answer["refused"])
        return answer["found"]

    async def _answer(self, question: bytes | None = None) -> dict[str, Any]:
        """The child's next line. Whatever keeps it from coming ends the child: its answer would be taken for the next."""
        child = cast("Process", self._child)
        questions, answers = cast("asyncio.StreamWriter", child.stdin), cast("asyncio.StreamReader", child.stdout)
        try:
            if question is not None:
                if questions.is_closing():  # uvloop would raise a RuntimeError
                    raise ConnectionError
                questions.write(question + b"\n")
                await questions.drain()
            if not (line := await answers.readline()):
                raise ConnectionError
            answer: dict[str, Any] = await self.workers.run(from_json, line)
            return answer
        except BaseException as error:
            log.warning("the evaluator is ended: %s", type(error).__name__)
            self._end()
            if isinstance(error, ConnectionError):
                raise Refused(503, "the evaluator ended", "Try again: it is started anew", AGAIN) from None
            if isinstance(error, ValueError):
                raise Refused(413, "the answer is too large", "Send fewer rows in a request") from None
            raise

    def _end(self) -> None:
        child, self._child = self._child, None
        if child and child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
