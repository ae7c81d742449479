"""The view of outputs: every one that was ever stored, and whether it counts now."""

from runstore.log.views.undone import UNDONE, is_calm, last_undone
from runstore.log.views.written_keys import escaped

LOST = """lost AS MATERIALIZED (
    SELECT runs.run, named.value AS step, json_group_array(json_array(row_id, label.value)) AS labels
    FROM runs JOIN events ON events.run = runs.run AND events.step IS NULL AND body ->> '$.lost' IS NOT NULL
    JOIN json_each(body, '$.steps') AS named JOIN json_each(body, '$.lost') AS label
    GROUP BY runs.run, named.value
)"""


def label(event: str) -> str:
    """SQL that names an output of a step as `StepInvalidated.lost` does."""
    return f"""{event}.body ->> '$.output' || iif({event}.key IS NULL, '', '[' || {escaped(f"{event}.key")} || ']')"""


# Whether an output counts of a step that was invalidated, once its attempt has succeeded: asked of a row `marked`. A
# step that ran again for lost bytes renews just these (rule R6), so that the two halves of the last condition must not
# be equal: a later success, and one that renews the output. `ended / 2` is the success of its own attempt.
STANDS = """EXISTS (
                SELECT 1 FROM events AS done WHERE done.run = marked.run AND done.step = marked.step
                AND done.key IS NULL AND done.row_id > undone AND done.kind = 'StepSucceeded'
            ) AND NOT EXISTS (
                SELECT 1 FROM events AS done WHERE done.run = marked.run AND done.step = marked.step
                AND done.key IS NULL AND done.row_id >= ended / 2 AND done.kind = 'StepSucceeded'
                AND (done.row_id > ended / 2) = coalesce((
                    SELECT max(loss.value ->> '$[1]' = label) FROM json_each((
                        SELECT labels FROM lost WHERE lost.run = marked.run AND lost.step = marked.step)) AS loss
                    WHERE loss.value ->> '$[0]' < done.row_id AND loss.value ->> '$[0]' > coalesce((
                        SELECT max(row_id) FROM events AS before WHERE before.run = marked.run
                        AND before.step = marked.step AND before.key IS NULL AND before.row_id < done.row_id
                        AND before.kind = 'StepSucceeded'), 0)), 1)
            ) AND (key IS NULL OR EXISTS (
                SELECT 1 FROM events AS piece WHERE piece.run = marked.run AND piece.step = marked.step
                AND piece.key = marked.key AND piece.body ->> '$.output' = marked.body ->> '$.output'
                AND piece.row_id > (
                    SELECT max(row_id) FROM events AS begun WHERE begun.run = marked.run AND begun.step = marked.step
                    AND begun.key IS NULL AND begun.kind IN ('StepStarted', 'StepReused'))
            ))"""

# Every output that was ever stored, step by step: what the index tells of a step is asked once for all of them. An
# output is accepted if it counts now: its attempt has succeeded, the step's success stands, and no later success of the
# step has renewed it. Where nothing was invalidated a step succeeds once, in its last attempt. `ended` is twice the
# row_id of the end of the output's attempt, plus 1 if that is a success, so that one look tells both. `+` keeps SQLite
# from a search for each kind where a step has a few rows.
OUTPUTS = f"""
CREATE VIEW outputs AS
WITH {UNDONE},
{LOST}, told AS (
    SELECT runs.run, runs.id AS run_id, step, substr(step, 1, instr(step || '[', '[') - 1) AS op,
           max(row_id) FILTER (WHERE kind IN ('StepStarted', 'StepReused')) AS started,
           max(row_id) FILTER (WHERE kind = 'StepSucceeded') AS succeeded
    FROM runs CROSS JOIN events ON events.run = runs.run AND step IS NOT NULL AND key IS NULL
    GROUP BY runs.id, step
), marked AS (
    SELECT told.*, event.row_id, event.key, event.body,
           {is_calm("told.run")} AS calm, {last_undone("told.run", "told.step", "told.op")} AS undone,
           {label("event")} AS label,
           (SELECT min(2 * row_id + (kind = 'StepSucceeded')) FROM events AS next
            WHERE next.run = told.run AND next.step = told.step AND next.key IS NULL
            AND +next.row_id > event.row_id AND +next.kind IN
                ('StepSucceeded', 'StepFailed', 'StepRetried', 'StepStarted', 'StepReused')) AS ended
    FROM told CROSS JOIN events AS event ON event.run = told.run AND event.step = told.step
        AND +event.kind IN ('OutputStored', 'DynamicOutputStored')
)
SELECT run_id, row_id & 4294967295 AS seq, step, op, substr(step, length(op) + 1) AS key_path,
       body ->> '$.output' AS output, key, coalesce(body ->> '$.attempt', 1) AS attempt,
       body ->> '$.reference.path' AS path, coalesce(body ->> '$.reference.base', 0) AS base,
       body ->> '$.reference.size_bytes' AS size_bytes, body ->> '$.reference.sha256' AS sha256,
       body ->> '$.reference.serializer' AS serializer,
       CASE WHEN calm OR undone = 0 THEN coalesce(started < row_id AND row_id < succeeded, 0)
            WHEN ended % 2 IS NOT 1 THEN 0
            ELSE {STANDS} END AS accepted
FROM marked"""
