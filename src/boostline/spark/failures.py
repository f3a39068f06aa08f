"""What an exception of Spark or of its JVM means for the person who runs the job."""

from __future__ import annotations

import re

from boostline.errors import (
    BoostlineError,
    DataInvalid,
    DataMissing,
    DatasetInvalid,
    EnvironmentUnfit,
    FailError,
    InputChanged,
    ServiceUnavailable,
    SparkLost,
    StoreUnavailable,
    StoreUnsuitable,
)

_OWN = re.compile(r"^boostline\.errors\.(\w+): (.+?)\.?(?:\n(.+?)\.?)?$", re.MULTILINE)
"""An error of ours as the traceback of a Python process of an executor shows it."""

_SCRATCH = "it is /scratch in a container, and what BOOSTLINE_SPARK_SCRATCH says elsewhere"

_FILE = re.compile(r"(s3a://[^\s'\"`,\])]+)")

# The first line that matches decides: what, class, message, remedy.
_MEANINGS: tuple[tuple[str, type[BoostlineError], str, str], ...] = (
    (
        r"No space left on device",
        EnvironmentUnfit,
        "Spark's scratch folder is full",
        f"Free space there, or put it on a larger disk: {_SCRATCH}",
    ),
    (
        r"NoSuchFileException: \S*/blockmgr-",
        SparkLost,
        "Spark's scratch folder was cleared while the job ran",
        f"Keep other programs, and a worker's clean-up, out of it: {_SCRATCH}",
    ),
    (
        # Spark tells it as the end of that process's output, an EOFException.
        r"Python worker exited unexpectedly",
        SparkLost,
        "a Python process of an executor ended by itself, most often for want of memory",
        "A retry starts afresh; where it ends again, give the machine more memory, or Spark fewer cores of it",
    ),
    (
        r"KAFKA_DATA_LOSS",
        DataMissing,
        "Kafka holds messages no more that the stream has not read: too old for the topic, or the topic was made anew",
        "Let the topic keep its messages for longer. To go on with what is there, begin another stream: delete "
        "streams/DATASET/checkpoint in the lake",
    ),
    (
        r"kafka\.common\.errors\.(?:Timeout|Disconnect|Network)|No resolvable bootstrap urls|Cannot fetch record for offset",
        ServiceUnavailable,
        "Kafka does not answer",
        "See whether its brokers are up, and whether BOOSTLINE_KAFKA names them",
    ),
    (
        r"INVALID_PARAMETER_VALUE\.PATTERN",
        DatasetInvalid,
        "Spark refuses a regular expression",
        "Mend that `replace`, or the label's expression, in the dataset file",
    ),
    (
        r"PARQUET_TYPE_(?:ILLEGAL|NOT_RECOGNIZED|NOT_SUPPORTED)",
        DataInvalid,
        "{file} has a column of a type that Spark does not know",
        "Write it without that column, or with another type",
    ),
    (
        r"RemoteFileChangedException|FileNotFoundException: No such file or directory: s3a",
        InputChanged,
        "{file} changed or went away while it was read",
        "A retry reads it again",
    ),
    (
        r"NoSuchBucketException|UnknownStoreException|Bucket does not exist",
        StoreUnsuitable,
        "S3 has no such bucket ({file})",
        "Create it, or set BOOSTLINE_LAKE",
    ),
    (
        r"AccessDeniedException|InvalidAccessKeyId|SignatureDoesNotMatch|NoAwsCredentialsException|AWSNoAuth",
        StoreUnsuitable,
        "S3 refuses Spark's keys ({file})",
        "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the rights of that identity",
    ),
    (
        r"AWSClientIOException|ConnectException|SdkClientException|ApiCallTimeout|AWSServiceIOException|"
        r"AWSStatus500Exception|AWSServiceThrottledException|AWSNoResponseException|UnknownHostException|HttpHostConnectException|"
        r"NoHttpResponseException|SocketTimeoutException|SSLException",
        StoreUnavailable,
        "S3 failed while Spark worked with it ({file})",
        "Try again when it is up",
    ),
    (
        # After those of S3: a lost connection is told as an EOFException, too.
        r"Unexpected end of input stream|not a gzip file|incorrect header check|invalid (?:stored|block|code|distance|"
        r"literal/length)|is not a Parquet file|Could not read footer|CANNOT_READ_FILE_FOOTER|ParquetDecodingException|"
        r"incorrect data check|unknown compression method|ZipException|EOFException",
        DataInvalid,
        "{file} is truncated or corrupt",
        "Land a whole copy of it again",
    ),
    (
        # SPARK-57438, in 4.1: the first batch after a crash, once it is done, ends the query.
        r"KafkaMicroBatchStream\$\.metrics",
        SparkLost,
        "Spark cannot tell how far behind Kafka a repeated batch is; the batch itself is done",
        "The stream starts again and goes on",
    ),
    (
        r"OutOfMemoryError|Java heap space",
        SparkLost,
        "a Spark process ran out of memory",
        "Raise spark.driver_memory or spark.executor_memory in the dataset file",
    ),
    (
        r"ExecutorLostFailure|executor (?:lost|.* exited)|Master removed our application|masters are unresponsive|"
        r"SparkContext was shut down|stopped SparkContext|FetchFailed|MetadataFetchFailed|Py4JNetworkError|"
        r"Error while (?:sending|receiving)|Answer from Java side is empty|Connection refused|Connection reset|Broken pipe|"
        r"RpcTimeoutException|Futures timed out",
        SparkLost,
        "Spark lost its driver, its executors or its master",
        "See the logs of the Spark master and workers; a retry starts afresh",
    ),
)


def explain(error: BaseException) -> BoostlineError | None:
    """The error of ours that an exception stands for, or none where it is a bug to be seen in full."""
    if isinstance(error, BoostlineError):
        return error
    text = _text(error)
    if own := _OWN.search(text):
        return BoostlineError.from_dict({"class": own[1], "message": own[2], "remedy": own[3] or ""})
    for pattern, kind, message, remedy in _MEANINGS:
        found = re.search(pattern, text)
        if found:
            file = _FILE.search(text)
            where = re.sub(r"^s3a:", "s3:", file[1].rstrip(".:;")) if file else "an object that Spark does not name"
            return kind(f"{message.format(file=where)}: {_line(text, found.start())}", remedy)
    return None


def unknown(error: BaseException) -> FailError:
    """What a person is told of an exception that `explain` does not know: its type and its first line."""
    java = getattr(error, "java_exception", None)
    said = str(error) if java is None else str(java.toString())  # py4j's own first line says only where
    lines = said.splitlines() or ["no message"]
    return FailError(f"{type(error).__name__}: {lines[0][:500]}", "The task's log holds the whole")


def _text(error: BaseException) -> str:
    """The messages of an exception and its causes, the JVM's stack traces among them."""
    parts: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(parts) < 10:
        parts.append(f"{type(seen).__name__}: {seen}")
        trace = getattr(seen, "java_exception", None)
        if trace is not None:
            parts.append(str(trace.toString()))
        stack = getattr(seen, "_stackTrace", None)
        if stack:
            parts.append(str(stack))
        seen = seen.__cause__ or seen.__context__
    return "\n".join(parts)


def _line(text: str, position: int) -> str:
    """The line around a position, at most 200 characters."""
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    return text[start : end if end > 0 else None].strip()[:200]
