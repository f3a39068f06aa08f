"""MinIO's users: the same identities with the same rights as on SeaweedFS, made by MinIO's own client `mc`."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile

from boostline.containers.servers import identities
from boostline.errors import EnvironmentUnfit

_ACTIONS = {
    "Read": ("GetObject",),
    "Write": ("PutObject", "DeleteObject", "AbortMultipartUpload", "ListMultipartUploadParts"),
    "List": ("ListBucket", "GetBucketLocation", "ListBucketMultipartUploads"),
    "Tagging": ("GetObjectTagging", "PutObjectTagging", "DeleteObjectTagging"),
}
"""A right in SeaweedFS's words → S3's."""


def make_users() -> None:
    """Have MinIO's users with the keys of now, and no others. The admin is MinIO's root.

    Raises:
        EnvironmentUnfit: `mc` failed; names the step.
    """
    rights = {name: found for name, found in identities().items() if name != "ADMIN"}
    names = {os.environ[f"S3_{name}_KEY"]: name for name in rights}
    for line in _mc("user", "list", "s3", "--json").splitlines():
        if (key := json.loads(line).get("accessKey")) and key not in names:
            _mc("user", "remove", "s3", key)
    for key, name in names.items():
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(json.dumps(policy(rights[name])))
            file.flush()
            _mc("policy", "create", "s3", name.lower(), file.name)
        _mc("user", "add", "s3", answers=f"{key}\n{os.environ[f'S3_{name}_SECRET']}\n")
        _mc("policy", "attach", "s3", name.lower(), "--user", key)


def policy(rights: list[str]) -> dict[str, object]:
    """An S3 policy that grants rights like `Read:lake` and nothing else."""
    pairs = [right.split(":") for right in rights]
    statements = [
        {
            "Effect": "Allow",
            "Action": [f"s3:{action}" for right, of in pairs if of == bucket for action in _ACTIONS[right]],
            "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        }
        for bucket in sorted({bucket for _, bucket in pairs})
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def _mc(*command: str, answers: str = "") -> str:
    """What `mc admin COMMAND` printed; the root's keys go by the environment, a user's secret by standard input."""
    root = f"{os.environ['S3_ADMIN_KEY']}:{os.environ['S3_ADMIN_SECRET']}"
    host = os.environ["BOOSTLINE_S3_ENDPOINT"].replace("://", f"://{root}@", 1)
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            ["mc", "--config-dir", home, "admin", *command], input=answers, capture_output=True, text=True,
            env={**os.environ, "MC_HOST_s3": host}, timeout=60, check=False,
        )  # fmt: skip
    if done.returncode:
        raise EnvironmentUnfit(
            f"`mc admin {' '.join(command[:2])}` ended {done.returncode}: {done.stderr.strip()[-500:]}"
        )
    return done.stdout
