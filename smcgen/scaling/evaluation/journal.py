"""The folder of an evaluation: records that survive whatever happens, and the settings they were made with.

`records.jsonl` is only ever appended to, whole lines at a time, and each is on disk before the next problem starts.
A line that a kill left torn is dropped. `manifest.json` holds the settings, so that records of another model or
another reward are never mixed in; more problems, budgets, seeds or strategies may be added at any time.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from smcgen.errors import SmcgenError
from smcgen.scaling.evaluation.records import Key, Record

_FORMAT = 1


class EvaluationError(SmcgenError):
    """An evaluation cannot start or go on. Whatever was written is kept."""


class Journal:
    """Records by key, in memory and (with a folder) on disk; a later record of a key replaces an earlier one."""

    def __init__(self, folder: Path | None, settings: Mapping[str, Any]):
        """Open a folder, or make it.

        Raises:
            EvaluationError: its records were made with other settings, cannot be read, or are being written now.
        """
        self.records: dict[Key, Record] = {}
        self.torn = 0  # bytes of a line that a kill left unfinished
        self._folder, self._file = folder, None
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / "records.jsonl").open("ab", buffering=0)
            self._lock()
            self._check(settings)
            self._read(folder / "records.jsonl")
        except OSError as error:
            self.close()
            raise EvaluationError(f"{folder}: {error}") from error
        except BaseException:
            self.close()
            raise

    def append(self, records: Sequence[Record]) -> None:
        """Write records; when this returns they are on disk, all of them, or (after an error) none.

        Raises:
            EvaluationError: the disk is full, say.
        """
        if self._file is not None and records:
            data = "".join(record.line() for record in records).encode()
            before = os.fstat(self._file.fileno()).st_size
            try:
                view = memoryview(data)
                while view:
                    view = view[self._file.write(view) :]
                os.fsync(self._file.fileno())
            except OSError as error:
                with contextlib.suppress(
                    OSError
                ):  # a torn line would be dropped by the next run anyway
                    os.ftruncate(self._file.fileno(), before)
                raise EvaluationError(
                    f"{self._folder}: {error.strerror or error}; the {len(self.records)} records before are "
                    "kept: make room and run the same command again"
                ) from error
        self.records.update((record.key, record) for record in records)

    def close(self) -> None:
        """Let another run have the folder."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # not a Unix: nobody checks
            return
        assert self._file is not None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise EvaluationError(f"{self._folder}: another run is writing there") from error

    def _check(self, settings: Mapping[str, Any]) -> None:
        assert self._folder is not None
        path, wanted = self._folder / "manifest.json", {"format": _FORMAT, **settings}
        if not path.exists():
            _write_atomically(path, json.dumps(wanted, indent=2) + "\n")
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise EvaluationError(f"{path}: not a manifest ({error})") from error
        for name, (then, now) in _differences(found, wanted):
            raise EvaluationError(
                f"{self._folder} has records made with {name}={then!r}, not {now!r}: "
                "choose another folder, or the same settings"
            )
        merged = _merged(found, wanted)
        if merged != found:
            _write_atomically(path, json.dumps(merged, indent=2) + "\n")

    def _read(self, path: Path) -> None:
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        self.torn = len(data) - whole
        if self.torn:
            assert self._file is not None
            os.ftruncate(self._file.fileno(), whole)
        self.records = {record.key: record for record in _records(data[:whole], path)}


def read_records(folder: Path) -> list[Record]:
    """The records of a folder, the latest of each key.

    Raises:
        EvaluationError: there are none, or a line of them is not a record.
    """
    path = folder / "records.jsonl"
    if not path.is_file():
        raise EvaluationError(f"{folder}: no records.jsonl in it")
    data = path.read_bytes()
    return list({r.key: r for r in _records(data[: data.rfind(b"\n") + 1], path)}.values())


def _records(data: bytes, path: Path) -> Iterator[Record]:
    for number, line in enumerate(data.splitlines(), 1):
        try:
            yield Record.read(line.decode())
        except ValueError as error:
            raise EvaluationError(f"{path}, line {number}: {error}") from error


def _differences(found: Any, wanted: Any, name: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Settings of both that are not the same; what only one of them has is none."""
    if isinstance(found, dict) and isinstance(wanted, Mapping):
        for key in (key for key in found if key in wanted):
            yield from _differences(found[key], wanted[key], f"{name}.{key}" if name else key)
    elif found != wanted:
        yield name, (found, wanted)


def _merged(found: dict[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    both = {**found, **wanted}
    for key in found.keys() & wanted.keys():
        if isinstance(found[key], dict):
            both[key] = _merged(found[key], wanted[key])
    return both


def _write_atomically(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
