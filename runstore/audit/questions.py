"""Ten questions that are put to `runs.db` in SQL, and what Datasette is told of the file.

The page `docs/sql.md` shows each with its answer on a store of the tests; they are asked there by sqlite-utils and by a
Datasette process.
"""

from typing import Any

import msgspec

from runstore.log.schema import OBJECTS

DATABASE = "runs"
"""What Datasette calls a file `runs.db`."""


class Question(msgspec.Struct, frozen=True):
    """One question; `:run_id` and other names with a colon are its parameters."""

    name: str
    title: str
    sql: str


QUESTIONS = (
    Question(
        "runs",
        "Which runs are there, and how did they end?",
        "SELECT id, name, status, epoch, events FROM run_list ORDER BY run",
    ),
    Question(
        "not_done",
        "Which clones are not done, those among them that never started?",
        "SELECT step, status FROM keys WHERE run_id = :run_id AND status <> 'succeeded' ORDER BY op, number",
    ),
    Question(
        "errors",
        "Which steps have raised an error, and how do they stand?",
        "SELECT step, status, attempts, first_error FROM steps\n"
        "WHERE run_id = :run_id AND first_error IS NOT NULL ORDER BY step",
    ),
    Question(
        "ops",
        "How many steps has each op, and how often was one tried?",
        "SELECT op, count(*) AS steps, sum(status = 'succeeded') AS succeeded, sum(attempts) AS attempts\n"
        "FROM steps WHERE run_id = :run_id GROUP BY op ORDER BY op",
    ),
    Question(
        "results",
        "What does each step of an op hold now, and where?",
        "SELECT step, output, size_bytes, serializer, path FROM outputs\n"
        "WHERE run_id = :run_id AND op = :op AND accepted ORDER BY seq",
    ),
    Question(
        "superseded",
        "Which outputs were stored and do not count any more?",
        "SELECT seq, step, attempt, path FROM outputs WHERE run_id = :run_id AND NOT accepted ORDER BY seq",
    ),
    Question(
        "who_wrote",
        "Which attempt wrote these bytes, in whichever run?",
        "SELECT (SELECT id FROM runs WHERE runs.run = events.run) AS run_id, seq, step, key,\n"
        "       coalesce(body ->> '$.attempt', 1) AS attempt, epoch\n"
        "FROM events WHERE row_id IN (SELECT row_id FROM digests WHERE sha8 = substr(:sha256, 1, 8))\n"
        "AND body ->> '$.reference.sha256' = :sha256",
    ),
    Question(
        "made_from",
        "From which outputs was what a step has stored made?",
        "SELECT input, source_step, source_output, source_key, source_seq FROM lineage\n"
        "WHERE run_id = :run_id AND step = :step AND accepted ORDER BY source_seq",
    ),
    Question(
        "made_of_it",
        "What was made of what a step has stored?",
        "SELECT step, input, seq FROM lineage\n"
        "WHERE run_id = :run_id AND source_step = :step AND accepted ORDER BY seq",
    ),
    Question(
        "collected",
        "Which keys fed a collect, in which order?",
        "SELECT input, number, key_path, source_step, source_key FROM collects\n"
        "WHERE run_id = :run_id AND step = :step ORDER BY seq, number",
    ),
)

_DESCRIPTIONS = {
    "runs": "The number of each run, which stands in its rows.",
    "events": "The log, one row for each event; it can only be appended to. event_list shows it as people read it.",
    "messages": "What ops have logged; no part of the log, and perhaps pruned.",
    "claims": "Who executes which run, as far as can be told.",
    "event_list": "Every event, with its kind, step and time in columns.",
    "run_list": "Every run, by its first and last event.",
    "steps": "Every step that something has happened to, and how it stands.",
    "keys": "Every sealed key of every op that is cloned, and how the clone stands; one that never started is a row.",
    "outputs": "Every output that was ever stored; accepted: it counts now.",
    "lineage": "From output to output: each stored output, and each event that its attempt read.",
    "collects": "What fed each collect: the sealed keys, in their order.",
    "run_marks": "Of each run what bears on all of its steps.",
    "invalidations": "When the work of a step was last said to count no more.",
    "op_levels": "The levels that each op is cloned for.",
}


def datasette_metadata() -> dict[str, Any]:
    """What `datasette --metadata` takes for a file `runs.db`: descriptions, and the questions as canned queries."""
    tables = {
        name: {"description": _DESCRIPTIONS[name]} for name in OBJECTS if name in _DESCRIPTIONS
    }
    queries = {one.name: {"title": one.title, "sql": one.sql} for one in QUESTIONS}
    return {
        "title": "Runs",
        "description": "The log of runs that resume, made by runstore. Everything but events is derived from it.",
        "databases": {DATABASE: {"tables": tables, "queries": queries}},
    }
