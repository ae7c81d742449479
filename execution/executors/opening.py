"""What a worker in another process is told before any ticket, and what it makes of that: the job and the outputs.

A job that another process can look up goes as a reference, any other as a pickle of its code. No value and no
credential travels: those the worker finds where the executor's process has found them.
"""

import os
import pickle
import threading
from typing import Any, NamedTuple

from execution.definition.job import JobDefinition
from execution.definition.loading import (
    forget_changed,
    load_afresh,
    load_files,
    load_job,
    loaded_files,
    source_of,
)
from execution.errors import WorkerLost
from execution.executors.script_formats import PackedFormat, packed_formats, take_up
from execution.running.brief import Brief
from runstore.errors import ExtraMissing
from runstore.log.graph import Graph
from runstore.outputs.formats.pickled import CloudPickle
from runstore.outputs.output_store import OutputStore, Whereabouts
from runstore.store import reopen_outputs

_loading = threading.Lock()
"""Of jobs: threads of one process may begin to serve several runs at a time."""


class Opening(NamedTuple):
    """The first message to a worker: what it needs besides tickets."""

    whereabouts: Whereabouts
    reference: str
    """Of the job; empty where `pickled` holds it."""
    pickled: bytes
    files: list[str]
    """What has to be loaded before the pickle."""
    graph: Graph
    config: dict[str, Any]
    tags: dict[str, str]
    run_id: str
    epoch: int
    codes: dict[str, str]
    """Node -> the digest of its op's code."""
    source: str
    """The digest of the job's file, as the executor's process knows it."""
    formats: dict[str, PackedFormat]
    """That may have been registered by the script alone."""


def opening(whereabouts: Whereabouts, brief: Brief) -> bytes:
    """The first message to a worker. A job that no module or file has under its name goes as a pickle of its code."""
    job, reference, pickled = brief.job, brief.job.reference, b""
    if not reference:
        for op in job.ops.values():  # what another process cannot look up in the sources again
            _ = (op.code, op.declared, op.input_types, op.nothing_outputs)
        try:
            pickled = CloudPickle().encode(job, None)
        except ExtraMissing:
            raise
        except Exception as error:
            raise WorkerLost(
                f"job {job.name!r} cannot be sent to another process: {type(error).__name__}: {error}; "
                "define it in a module or file, under its name"
            ) from error
    return pickle.dumps(
        tuple(
            Opening(
                whereabouts,
                reference,
                pickled,
                loaded_files() if pickled else [],
                brief.graph,
                dict(brief.config),
                dict(brief.tags),
                brief.run_id,
                brief.epoch,
                _codes(job),
                source_of(reference) if reference else "",
                packed_formats(),
            )
        ),
        protocol=5,
    )


def opened(message: bytes) -> tuple[OutputStore, Brief]:
    """The outputs and the brief, in the worker's process.

    Raises WorkerLost where the process has loaded older code that it cannot load again.
    """
    given = Opening(*pickle.loads(message))
    with _loading:
        job = _job(given)
    take_up(given.formats)
    brief = Brief(job, given.graph, given.config, given.tags, given.run_id, given.epoch)
    return reopen_outputs(given.whereabouts), brief


def _job(given: Opening) -> JobDefinition:
    if not given.reference:
        load_files(given.files)
        pickled: JobDefinition = CloudPickle().decode(given.pickled, None)
        return pickled
    reference = given.reference
    forget_changed(reference)
    job = load_job(reference)
    if (_codes(job), source_of(reference)) == (given.codes, given.source):
        return job
    # A process that serves many runs may have loaded an older file.
    job = load_afresh(reference)
    if source_of(reference) != given.source == source_of(reference, now=True):
        raise WorkerLost(
            f"process {os.getpid()} has loaded older code of {reference}, a module that it cannot load again; restart "
            "the worker, then `runstore resume`"
        )
    return job


def _codes(job: JobDefinition) -> dict[str, str]:
    return {node: op.code for node, op in job.ops.items()}
