"""What was said to count no more, as the other views ask for it.

They look it up row by row, and only in runs that are not calm. A join would do, but SQLite 3.40 carries one out that
costs the steps of a run times those that were undone, and where no run is named it can lose rows (FORMAT.md, Caveats).
"""

# The last time that the work of a step, or of all steps of an op (`step` is null), was said to count no more.
INVALIDATIONS = """
CREATE VIEW invalidations AS
SELECT runs.run, body ->> '$.node' AS op, named.value AS step, max(row_id) AS row_id
FROM runs JOIN events ON events.run = runs.run AND events.step IS NULL AND events.key IS NULL
    AND kind = 'StepInvalidated'
LEFT JOIN json_each(body, '$.steps') AS named
GROUP BY runs.run, op, named.value"""

UNDONE = "undone AS MATERIALIZED (SELECT run, op, step, row_id FROM invalidations)"
"""What `is_calm` and `last_undone` ask; it stands in the WITH of a view."""


def is_calm(run: str) -> str:
    """SQL that is true for a run of which nothing was undone; soon said where that is so of all runs."""
    return f"(NOT EXISTS (SELECT 1 FROM undone) OR {run} NOT IN (SELECT run FROM undone))"


def last_undone(run: str, step: str, op: str) -> str:
    """SQL for the row_id of the event that last undid a step; 0 where none did."""
    return f"""max(coalesce((SELECT row_id FROM undone AS of_step
                         WHERE of_step.run = {run} AND of_step.step = {step}), 0),
               coalesce((SELECT row_id FROM undone AS of_op
                         WHERE of_op.run = {run} AND of_op.op = {op} AND of_op.step IS NULL), 0))"""
