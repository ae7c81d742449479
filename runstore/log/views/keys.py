"""The view of keys: every clone that there is to be, also one that never started."""

from runstore.log.views.levels import key_paths
from runstore.log.views.undone import UNDONE, is_calm, last_undone

# Every sealed key of every op that is cloned, and how the clone stands: one that never started is a row too. The keys
# are those of the last seals, in their order; `latest` is what happened to the clone last. Ops that are not cloned have
# no keys, and are in `steps`.
KEYS = f"""
CREATE VIEW keys AS
WITH marks AS MATERIALIZED (SELECT run, resumed, stopped FROM run_marks),
{UNDONE},
levels AS MATERIALIZED (
    SELECT run, run_id, op, levels, json_array_length(levels) AS depth FROM op_levels WHERE levels <> '[]'
), clones AS (
    SELECT levels.run, run_id, op, path.key AS number,
           path.value ->> '$[0]' AS key_path
    FROM levels JOIN json_each({key_paths("levels.levels", "levels.run", "'[]'", "levels.depth")}) AS path
), shown AS (
    SELECT run, run_id, op, number, key_path, op || key_path AS step,
           (SELECT max(row_id) FROM events WHERE events.run = clones.run
            AND events.step = clones.op || clones.key_path AND events.key IS NULL AND +events.kind IN
                ('StepStarted', 'StepReused', 'StepSucceeded', 'StepFailed', 'StepRetried', 'StepSkipped')) AS latest
    FROM clones
)
SELECT run_id, shown.op, number, shown.key_path, shown.step,
       CASE WHEN coalesce(last.row_id, -1) < iif({is_calm("shown.run")}, 0,
                {last_undone("shown.run", "shown.step", "shown.op")}) THEN 'pending'
            ELSE CASE last.kind WHEN 'StepSucceeded' THEN 'succeeded' WHEN 'StepSkipped' THEN 'skipped'
                      WHEN 'StepFailed' THEN iif(last.row_id < resumed, 'pending', 'failed')
                      WHEN 'StepRetried' THEN iif(last.row_id < stopped, 'pending', 'waiting')
                      ELSE iif(last.row_id < resumed, 'pending', 'running') END
       END AS status
FROM shown LEFT JOIN events AS last ON last.row_id = shown.latest
LEFT JOIN marks ON marks.run = shown.run"""
