"""The view of collects: what fed each."""

from runstore.log.views.levels import key_paths

_MEMBERS = key_paths("readings.levels", "readings.run", "readings.first", "readings.depth")

# What fed each collect: the sealed keys below the consumer, in their order, and the step or piece under each; `outputs`
# says whether that has a value. By the last seals, so it speaks of the last `CollectResolved` of each input. The groups
# of `readings` have one row each: they keep SQLite from reading the graph anew for each member.
COLLECTS = f"""
CREATE VIEW collects AS
WITH nodes AS MATERIALIZED (SELECT run, op, scope, levels, dynamic FROM op_levels),
proofs AS (
    SELECT runs.id AS run_id, events.run, seq, step, body, coalesce(body ->> '$.place', 0) AS place,
           substr(step, 1, instr(step || '[', '[') - 1) AS op,
           rtrim(rtrim(body ->> '$.source', replace(body ->> '$.source', '.', '')), '.') AS source,
           replace(body ->> '$.source', rtrim(body ->> '$.source', replace(body ->> '$.source', '.', '')), '')
               AS output,
           '[' || iif(step LIKE '%[%', replace(
               json_quote(substr(step, instr(step, '[') + 1, length(step) - instr(step, '[') - 1)), '][', '","'
           ), '') || ']' AS keys
    FROM runs JOIN events ON events.row_id BETWEEN runs.run << 32 AND runs.run << 32 | 4294967295
    WHERE kind = 'CollectResolved' AND NOT EXISTS (
        SELECT 1 FROM events AS later WHERE later.run = events.run AND later.step = events.step AND later.key IS NULL
        AND later.row_id > events.row_id AND later.kind = 'CollectResolved'
        AND later.body ->> '$.input' = events.body ->> '$.input'
        AND later.body ->> '$.place' IS events.body ->> '$.place')
), sources AS (
    SELECT proofs.*, EXISTS (SELECT 1 FROM json_each(made.dynamic) AS one WHERE one.value = output) AS pieces,
           made.levels AS below, made.scope AS levels_of, readers.scope AS own,
           json_object('node', source, 'output', output) AS last
    FROM proofs JOIN nodes AS made ON made.run = proofs.run AND made.op = source
    JOIN nodes AS readers ON readers.run = proofs.run AND readers.op = proofs.op
), wholes AS (
    SELECT sources.*, iif(pieces, json_insert(levels_of, '$[#]', json(last)), levels_of) AS whole,
           iif(pieces, json_insert(below, '$[#]', json_object('op', source, 'output', output, 'at', json((
                SELECT json_group_array(one.key) FROM json_each(levels_of) AS one)))), below) AS levels
    FROM sources
), readings AS (
    SELECT wholes.*, json_array_length(whole) AS depth, (
        SELECT json_group_array(json_extract(keys, '$[' || mine.key || ']')) FROM json_each(whole) AS theirs
        JOIN json_each(own) AS mine ON mine.value = theirs.value
        WHERE theirs.key < json_array_length(whole) - json_array_length(body, '$.levels')) AS first
    FROM wholes GROUP BY run_id, seq
)
SELECT run_id, seq, step, body ->> '$.input' AS input, place, path.key AS number,
       path.value ->> '$[0]' AS key_path,
       source || (path.value ->> iif(pieces, '$[1]', '$[0]')) AS source_step,
       output AS source_output,
       iif(pieces, (SELECT key FROM events WHERE row_id = (readings.run << 32) + (path.value ->> '$[2]')), NULL)
           AS source_key
FROM readings JOIN json_each({_MEMBERS}) AS path"""
