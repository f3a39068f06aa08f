"""No driver outlives its task.

A Spark driver in client mode is a chain: task → JVM (spark-submit) → Python. A killed or timed-out task ends at most
the JVM, so the Python process ties itself to the JVM, and ends both when the task is gone.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import threading
import time

import psutil

log = logging.getLogger(__name__)

TASK_PID = "BOOSTLINE_TASK_PID"
"""Names the task's process: a task that ends before the tie holds is no longer the JVM's parent."""

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 1.0


def tie_to_parents() -> None:
    """End with the JVM that started this process, and with the process that started the JVM."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # not started by spark-submit: a test, or a notebook
        return
    jvm = psutil.Process(os.getppid())
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != jvm.pid:  # it died before the tie held
        os.kill(os.getpid(), signal.SIGKILL)
    task = int(os.environ.get(TASK_PID) or jvm.ppid())
    threading.Thread(target=_end_with_task, args=(jvm, task), daemon=True).start()


def _end_with_task(jvm: psutil.Process, task: int) -> None:
    while jvm.ppid() == task:
        time.sleep(_POLL_SECONDS)
    log.error("process %d, which started this Spark job, is gone: ending driver and JVM", task)
    jvm.kill()
    os.kill(os.getpid(), signal.SIGKILL)
