"""Exporting a registered version: find it, check it, write it where nothing is yet."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from boostline.errors import DataMissing, FailError, ModelRefused
from boostline.export.baseline import baseline_pmml
from boostline.export.document import write_document
from boostline.export.xgboost_model import xgboost_pmml
from boostline.lake.manifest import Manifest, read_current, require_published
from boostline.lake.store import Store
from boostline.registry.versions import CHAMPION, date_of, find_version, load_version, version_manifest
from boostline.scoring.model_file import TRANSFORM, UBJ
from boostline.settings import Settings
from boostline.tracking import Version

BASELINE, XGBOOST_JSON = "baseline.json", "xgboost.json"


def export_model(store: Store, settings: Settings, dataset: str, version: str | None, form: str, path: Path) -> str:
    """Write the XGBoost model of a version.

    Args:
        store: The lake.
        settings: MLflow's address.
        dataset: Its name.
        version: A number; none: the champion.
        form: `pmml`, a file; `ubj` or `json`, a folder with XGBoost's file, model.json and transform.json.
        path: Where to; nothing is there yet.

    Returns:
        The version's number.

    Raises:
        FailError: No such version, or something is at the path already.
        ModelRefused: The stored file does not match its SHA-256; nothing of it was parsed.
        NotExportable: PMML cannot say what the model does.
    """
    _refuse_existing(path)
    found = find_version(settings, dataset, version or CHAMPION)
    model = load_version(store, found)
    if form == "pmml":
        body, about = xgboost_pmml(model), f"{_about(found)}, SHA-256 of its model.ubj {model.info.sha256}"
        write_file(path, lambda file: write_document(file, model.transform, body, about))
        return found.version
    files = dict(model.files)
    if form == "json":
        files[XGBOOST_JSON] = bytes(model.booster.save_raw("json"))
        del files[UBJ]
    write_folder(path, files)
    return found.version


def export_baseline(store: Store, settings: Settings, dataset: str, version: str | None, form: str, path: Path) -> str:
    """Write the baseline that a version had to beat: the published one of its data date, on the same features.

    Args:
        store: The lake.
        settings: MLflow's address.
        dataset: Its name.
        version: A number; none: the champion.
        form: `pmml`, a file; `json`, a folder with baseline.json and transform.json.
        path: Where to; nothing is there yet.

    Returns:
        The version's number.

    Raises:
        FailError: No such version, or something is at the path already.
        DataMissing: The lake has no baseline of that date on these features.
        ModelRefused: A stored file is not the one that was published; nothing of it was parsed.
        NotExportable: PMML cannot say what the baseline does.
    """
    _refuse_existing(path)
    found = find_version(settings, dataset, version or CHAMPION)
    (model, _), current = version_manifest(store, found), read_current(store, "baseline", dataset, None, date_of(found))
    if current is None or current[0].inputs.get("features") != model.inputs.get("features"):
        raise DataMissing(
            f"{_about(found)}: no baseline on the same features is published for its date",
            f"Run the date again: boostline run {dataset} --date {date_of(found)}",
        )
    # The transformation is the model's own, which is compared with the manifest where the model is loaded.
    transform = load_version(store, found).transform
    body = _baseline(store, current[0])
    if form == "json":
        write_folder(path, {BASELINE: body, TRANSFORM: transform.dumps()})
        return found.version
    pmml = baseline_pmml(json.loads(body), transform, float(current[0].details.get("threshold", 0.5)))
    about = f"{current[0].details['kind']} baseline of {_about(found)}"
    write_file(path, lambda file: write_document(file, transform, pmml, about))
    return found.version


def write_file(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file whole or not at all, and never over another."""
    with _beside(path) as scratch:
        part = scratch / "part"
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(part, path)  # unlike a rename it fails where something is
        except FileExistsError:
            _refuse_existing(path)
            raise


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files whole or not at all, and never over another."""
    with _beside(path) as scratch:
        folder = scratch / "part"
        folder.mkdir()
        for name, body in files.items():
            (folder / name).write_bytes(body)
        try:
            folder.rename(path)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                _refuse_existing(path)
            raise


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A scratch folder on the same disk; gone afterwards, whatever happens."""
    try:
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise FailError(f"cannot write to {path.parent}: {error.strerror}", "Name another place with --out") from error
    try:
        yield scratch
    except OSError as error:
        raise FailError(f"cannot write {path}: {error.strerror}", "Name another place with --out") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise FailError(f"{path} is there already", "Move it away, or name another place with --out")


def _baseline(store: Store, manifest: Manifest) -> bytes:
    """An attempt's baseline.json, which is the one that the manifest lists.

    Raises:
        ModelRefused: It is gone, or was changed.
    """
    listed = [item for item in manifest.files if item.key.endswith("/" + BASELINE)]
    found = store.get_many([item.key for item in listed])
    if not found:
        source = f"{BASELINE} of {manifest.dataset} for {manifest.partition}, attempt {manifest.attempt}"
        raise ModelRefused(f"{source} is gone from the lake", "Run its date again, which writes it anew")
    body, etag = found[listed[0].key]
    require_published(store, listed[0], body, etag)
    return body


def _about(version: Version) -> str:
    return f"version {version.version} of {version.dataset}, data date {date_of(version)}"
