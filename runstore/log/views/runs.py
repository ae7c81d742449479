"""Views of whole runs: every event, which bytes are stored, how each run stands, and what bears on all of its steps."""

# Every event as a person asks for it.
EVENT_LIST = """
CREATE VIEW event_list AS
SELECT runs.id AS run_id, seq, kind, epoch, body ->> '$.time' AS time, step,
       coalesce(substr(step, 1, instr(step || '[', '[') - 1), body ->> '$.node') AS node,
       substr(step, instr(step || '[', '[')) AS key_path,
       body ->> '$.attempt' AS attempt, body ->> '$.reference.sha256' AS sha256, body, events.run
FROM runs JOIN events ON events.row_id BETWEEN runs.run << 32 AND runs.run << 32 | 4294967295"""

# Which rows store bytes whose sha256 begins so: the entries of the digest index, and the rows that wait for theirs.
DIGESTS = """
CREATE VIEW digests AS
SELECT sha8, row_id FROM digest_index
UNION ALL
SELECT substr(body ->> '$.reference.sha256', 1, 8), row_id
FROM runs LEFT JOIN digest_index_ends AS ends ON ends.run = runs.run
JOIN events ON row_id BETWEEN coalesce(last, runs.run << 32) + 1 AND runs.run << 32 | 4294967295
WHERE body ->> '$.reference' IS NOT NULL"""

# One row per run, from its first and last event; a row of housekeeping, which may stand behind the end, repeats it.
RUN_LIST = """
CREATE VIEW run_list AS
SELECT runs.run, runs.id,
       first.body ->> '$.job' AS job,
       first.body ->> '$.graph.name' AS name,
       first.body ->> '$.time' AS started,
       last.body ->> '$.time' AS updated,
       last.epoch AS epoch,
       CASE last.kind WHEN 'RunSucceeded' THEN 'succeeded' WHEN 'RunFailed' THEN 'failed'
                      WHEN 'RunCancelled' THEN 'cancelled'
                      ELSE coalesce(last.body ->> '$.run_status', 'unfinished') END AS status,
       last.seq AS events
FROM runs
JOIN events AS first ON first.row_id = (runs.run << 32) + 1
JOIN events AS last ON last.row_id = (
    SELECT max(row_id) FROM events WHERE row_id BETWEEN runs.run << 32 AND runs.run << 32 | 4294967295)"""

# Of each run what bears on all of its steps: its last resume, its last end that was no success, the graph in force.
RUN_MARKS = """
CREATE VIEW run_marks AS
SELECT run, id AS run_id,
       (SELECT max(row_id) FROM events WHERE run = runs.run AND step IS NULL AND key IS NULL
        AND kind = 'RunResumed') AS resumed,
       (SELECT max(row_id) FROM events WHERE run = runs.run AND step IS NULL AND key IS NULL
        AND kind IN ('RunFailed', 'RunCancelled')) AS stopped,
       (SELECT body -> '$.graph' FROM events WHERE run = runs.run AND step IS NULL AND key IS NULL
        AND kind IN ('RunStarted', 'RunResumed') AND body ->> '$.graph.name' IS NOT NULL
        ORDER BY row_id DESC LIMIT 1) AS graph
FROM runs"""
