"""The view of steps: how each one stands that something has happened to."""

from runstore.log.views.undone import UNDONE, is_calm, last_undone

# A step that something has happened to; one that was never started is in `keys` alone. What happened last decides, and
# a resume makes what was running or had failed pending again. `running` may be one whose executor has died.
STEPS = f"""
CREATE VIEW steps AS
WITH marks AS MATERIALIZED (SELECT run, resumed, stopped FROM run_marks),
{UNDONE},
told AS (
    SELECT runs.run, runs.id AS run_id, step, substr(step, 1, instr(step || '[', '[') - 1) AS op,
           max(row_id) FILTER (WHERE kind IN ('StepStarted', 'StepReused')) AS started,
           max(row_id) FILTER (WHERE kind = 'StepSucceeded') AS succeeded,
           max(row_id) FILTER (WHERE kind = 'StepSkipped') AS skipped,
           max(row_id) FILTER (WHERE kind = 'StepFailed') AS failed,
           max(row_id) FILTER (WHERE kind = 'StepRetried') AS retried,
           min(row_id) FILTER (WHERE kind IN ('StepFailed', 'StepRetried')) AS erred,
           max(row_id) FILTER (WHERE kind IN ('StepStarted', 'StepReused', 'StepSucceeded', 'StepFailed',
                                              'StepRetried', 'StepSkipped')) AS last
    FROM runs CROSS JOIN events ON events.run = runs.run AND step IS NOT NULL AND key IS NULL
    GROUP BY runs.id, step
)
SELECT run_id, told.step, told.op, substr(told.step, length(told.op) + 1) AS key_path,
       CASE WHEN coalesce(last, -1) < iif({is_calm("told.run")}, 0,
                {last_undone("told.run", "told.step", "told.op")}) THEN 'pending'
            ELSE CASE last
                WHEN succeeded THEN 'succeeded'
                WHEN skipped THEN 'skipped'
                WHEN failed THEN iif(last < resumed, 'pending', 'failed')
                WHEN retried THEN iif(last < stopped, 'pending', 'waiting')
                ELSE iif(last < resumed, 'pending', 'running') END
       END AS status,
       iif(started, coalesce(begun.body ->> '$.attempt', 1), 0) AS attempts,
       (SELECT body ->> '$.error.type' || ': ' || (body ->> '$.error.message') FROM events
        WHERE row_id = erred) AS first_error,
       (SELECT body ->> '$.duration_s' FROM events WHERE row_id = succeeded) AS seconds,
       (SELECT body ->> '$.worker' FROM events
        WHERE row_id = max(coalesce(succeeded, 0), coalesce(failed, 0), coalesce(retried, 0))) AS worker
FROM told LEFT JOIN events AS begun ON begun.row_id = started
LEFT JOIN marks ON marks.run = told.run"""
