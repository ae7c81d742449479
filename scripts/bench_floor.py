"""The floor under the benchmark: what W(N) has to write, as straight-line code without any framework.

For each of N clones: the file of the yielded value and the file of the result, each written beside its name and
renamed; four JSON events of the sizes that ours have; one commit. Bytes come before the events that name them.

*kill*: survives that the process is killed. WAL, synchronous NORMAL, no fsync of files.
*power*: survives a power cut. synchronous FULL, fsync of each file and of the folder in which it appears.

Nothing is checked, hashed or read back: a floor that does more than it must would flatter what stands on it.
"""

import os
import sqlite3
import time
from pathlib import Path

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_INSERT = "INSERT INTO events (run, seq, body) VALUES (1, ?, ?)"
_TABLE = """
CREATE TABLE events (
    run  INTEGER NOT NULL,
    seq  INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID"""

_STAMP = '"epoch":1,"time":"2026-11-22T18:20:00.123456Z"'
_CODE = "9f86d081884c7d65"
_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def run(directory: Path, level: str, n: int) -> float:
    """Write N clones below `directory` and return the seconds that the writing took.

    Making the tables and the folders is not counted; nor is closing the database.
    """
    values = _folder(directory / "numbers" / "result")
    results = _folder(directory / "inc" / "result")
    db = _database(directory / "runs.db", durable=level == "power")
    write = _write_durable if level == "power" else _write
    begin = time.perf_counter()
    for i in range(n):
        value, result = b"%d" % i, b"%d" % (i + 1)
        write(values, f"{i}.json", value)
        write(results, f"{i}.json", result)
        db.execute("BEGIN IMMEDIATE")
        db.executemany(_INSERT, _events(i, len(value), len(result)))
        db.execute("COMMIT")
    seconds = time.perf_counter() - begin
    db.close()
    return seconds


def _folder(path: Path) -> int:
    """Make a folder; returns a descriptor, which spares each write the walk down its path."""
    path.mkdir(parents=True)
    return os.open(path, os.O_RDONLY)


def _database(path: Path, *, durable: bool) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    db.execute(_TABLE)
    return db


def _write(folder: int, name: str, data: bytes) -> None:
    beside = f".{name}.tmp"
    fd = os.open(beside, _CREATE, 0o600, dir_fd=folder)
    os.write(fd, data)
    os.close(fd)
    os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)


def _write_durable(folder: int, name: str, data: bytes) -> None:
    beside = f".{name}.tmp"
    fd = os.open(beside, _CREATE, 0o600, dir_fd=folder)
    os.write(fd, data)
    os.fsync(fd)
    os.close(fd)
    os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)


def _events(i: int, value_bytes: int, result_bytes: int) -> list[tuple[int, str]]:
    """The four events of clone i, with their seqs, in the shapes that FORMAT.md gives them."""
    seq = 4 * i + 1
    return [
        (
            seq,
            f'{{"kind":"DynamicOutputStored","step":"numbers","output":"result","mapping_key":"{i}",'
            f'"reference":{{"path":"numbers/result/{i}.json","size_bytes":{value_bytes},'
            f'"sha256":"{_SHA256}","serializer":"json"}},{_STAMP}}}',
        ),
        (
            seq + 1,
            f'{{"kind":"StepStarted","step":"inc[{i}]","inputs":{{"number":{seq}}},'
            f'"code":"{_CODE}",{_STAMP}}}',
        ),
        (
            seq + 2,
            f'{{"kind":"OutputStored","step":"inc[{i}]","output":"result",'
            f'"reference":{{"path":"inc/result/{i}.json","size_bytes":{result_bytes},'
            f'"sha256":"{_SHA256}","serializer":"json"}},{_STAMP}}}',
        ),
        (
            seq + 3,
            f'{{"kind":"StepSucceeded","step":"inc[{i}]","duration_s":0.000408,{_STAMP}}}',
        ),
    ]
