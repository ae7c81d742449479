"""Views of steps: what was said to count no more, and how each step stands."""

# The last time that the work of a step, or of all steps of an op (`step` is null), was said to count no more.
INVALIDATIONS = """
CREATE VIEW invalidations AS
SELECT runs.run, body ->> '$.node' AS op, named.value AS step, max(row_id) AS row_id
FROM runs JOIN events ON events.run = runs.run AND events.step IS NULL AND events.key IS NULL
    AND kind = 'StepInvalidated'
LEFT JOIN json_each(body, '$.steps') AS named
GROUP BY runs.run, op, named.value"""

# A step that something has happened to; one that was never started is in `keys` alone. What happened last decides, and
# a resume makes what was running or had failed pending again. `running` may be one whose executor has died.
STEPS = """
CREATE VIEW steps AS
WITH marks AS MATERIALIZED (SELECT run, resumed, stopped FROM run_marks),
undone AS MATERIALIZED (SELECT run, op, step, row_id FROM invalidations),
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
       CASE WHEN coalesce(last, -1) < max(coalesce(of_step.row_id, 0), coalesce(of_op.row_id, 0)) THEN 'pending'
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
LEFT JOIN marks ON marks.run = told.run
LEFT JOIN undone AS of_step ON of_step.run = told.run AND of_step.step = told.step
LEFT JOIN undone AS of_op ON of_op.run = told.run AND of_op.op = told.op AND of_op.step IS NULL"""
