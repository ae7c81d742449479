"""The view of lineage: what each attempt read, and what it stored."""

from runstore.log.views.outputs import LOST, STANDS, label
from runstore.log.views.undone import UNDONE, is_calm, last_undone

_OP = "substr(readings.reader, 1, instr(readings.reader || '[', '[') - 1)"

# From output to output: each stored output, and each event that its attempt read. What was collected is one row, whose
# source is the `CollectResolved` and no step: its members are in `collects`, by the same seq. A step that was taken
# from a parent read nothing here: see the parent.
# `readings` has a row for each attempt and input: what is read of the source is read once, however many outputs the
# attempt has stored. Its empty second half is what keeps it so: SQLite does not look through a compound of which one
# part has no FROM, while it still takes conditions on the run and the step into the other. `ended` is twice the row_id
# of what ends the attempt, plus 1 if that is its success, and beyond every row where nothing has: another start or a
# skip of the step comes after any failure, and the names of these kinds stand behind all others in the index. In a run
# of which nothing was invalidated each output of an attempt that has succeeded counts. The step is named as its event
# has it in the index: what comes out of `readings` is text that is copied for each row.
LINEAGE = f"""
CREATE VIEW lineage AS
WITH {UNDONE}, {LOST}, readings AS (
    SELECT runs.run, runs.id AS run_id, begun.step AS reader, begun.row_id AS started,
           coalesce((SELECT min(2 * row_id + (kind = 'StepSucceeded')) FROM events AS next
                     WHERE next.run = begun.run AND next.step = begun.step AND next.key IS NULL
                     AND next.kind >= 'StepReused' AND next.row_id > begun.row_id), 9223372036854775806) AS ended,
           iif(typeof(input.key) = 'text', input.key, replace(substr(input.fullkey, 10), '"', '')) AS input,
           input.atom AS source_seq, source.step AS source_step, source.key AS source_key,
           coalesce(source.body ->> '$.output', source.body ->> '$.source') AS source_output,
           source.body ->> '$.reference.path' AS source_path
    FROM runs CROSS JOIN events AS begun ON begun.run = runs.run AND begun.step IS NOT NULL
        AND +begun.kind = 'StepStarted'
    CROSS JOIN json_tree(begun.body, '$.inputs') AS input ON input.atom > 0
    CROSS JOIN events AS source ON source.row_id = (runs.run << 32) + input.atom
    UNION ALL
    SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL WHERE 0
), marked AS (
    SELECT readings.*, event.row_id, event.step, event.key, event.body, {label("event")} AS label,
           {last_undone("readings.run", "readings.reader", _OP)} AS undone
    FROM readings CROSS JOIN events AS event ON event.run = readings.run AND event.step = readings.reader
        AND +event.kind IN ('OutputStored', 'DynamicOutputStored')
        AND +event.row_id BETWEEN started AND ended / 2
)
SELECT run_id, row_id & 4294967295 AS seq, step, body ->> '$.output' AS output, key,
       body ->> '$.reference.path' AS path,
       CASE WHEN ended % 2 = 0 THEN 0 WHEN {is_calm("marked.run")} OR undone = 0 THEN 1
            ELSE {STANDS} END AS accepted,
       input, source_seq, iif(source_path IS NULL, NULL, source_step) AS source_step, source_output, source_key,
       source_path
FROM marked"""
