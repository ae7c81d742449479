"""What a person asks `runs.db` in SQL: views over the events, and nothing but the events.

No row of a view is stored, so none can be wrong or late. The program itself asks none of them but `run_list`: its
questions about a step go to the index, those about a whole run to the fold. Ask a view `WHERE run_id = '…'`: the
planner then reads that run alone.

What a view costs is how often it asks a body for a field: SQLite looks through subqueries and computes a column anew
wherever it is named. So a column that is dear is named once, in a join or a CASE, or stands behind a GROUP BY.
"""


def _escaped(key: str) -> str:
    """SQL that writes a mapping key as it stands in a step key: what `runstore.keys.escape_key` does (rule K2)."""
    return f"""CASE WHEN {key} NOT GLOB '*[^-A-Za-z0-9 ._/@+=:,]*' THEN {key} ELSE (
        WITH RECURSIVE chars(place, char) AS (
            SELECT 1, substr({key}, 1, 1)
            UNION ALL SELECT place + 1, substr({key}, place + 1, 1) FROM chars WHERE place < length({key})
        ) SELECT group_concat(CASE
            WHEN char IN ('%', '[', ']') OR unicode(char) < 32 OR unicode(char) BETWEEN 127 AND 159
                OR unicode(char) IN (1564, 8206, 8207, 8294, 8295, 8296, 8297) OR unicode(char) BETWEEN 8232 AND 8238
            THEN rtrim('%' || substr(hex(char), 1, 2) || '%' || substr(hex(char), 3, 2)
                || '%' || substr(hex(char), 5), '%')
            ELSE char END, '') FROM chars) END"""


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

# The last time that the work of a step, or of all steps of an op (`step` is null), was said to count no more.
INVALIDATIONS = """
CREATE VIEW invalidations AS
SELECT runs.run, body ->> '$.node' AS op, named.value AS step, max(row_id) AS row_id
FROM runs JOIN events ON events.run = runs.run AND events.step IS NULL AND events.key IS NULL
    AND kind = 'StepInvalidated'
LEFT JOIN json_each(body, '$.steps') AS named
GROUP BY runs.run, op, named.value"""

# The levels that an op is cloned for, outermost first: whose output gives the keys, and which of the keys before it
# name the step that yielded them. `json()` around a subquery: newer SQLite takes what comes out of one for a text.
OP_LEVELS = """
CREATE VIEW op_levels AS
SELECT marks.run, run_id, node.value ->> '$.name' AS op, coalesce(node.value -> '$.scope', '[]') AS scope,
       (SELECT json_group_array(json_object(
            'op', level.value ->> '$.node', 'output', level.value ->> '$.output',
            'at', json((SELECT json_group_array(own.key) FROM json_each(graph, '$.nodes') AS maker
                        JOIN json_each(maker.value, '$.scope') AS theirs
                        JOIN json_each(node.value, '$.scope') AS own ON own.value = theirs.value
                        WHERE maker.value ->> '$.name' = level.value ->> '$.node'))))
        FROM json_each(node.value, '$.scope') AS level) AS levels,
       (SELECT json_group_array(output.value ->> '$.name') FROM json_each(node.value, '$.outputs') AS output
        WHERE output.value ->> '$.dynamic') AS dynamic
FROM run_marks AS marks JOIN json_each(graph, '$.nodes') AS node"""

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

# Every output that was ever stored, step by step: what the index tells of a step is asked once for all of them. An
# output is accepted if it counts now: its attempt has succeeded, the step's success stands, and no later success of the
# step has renewed it. Where nothing was invalidated a step succeeds once, in its last attempt. `ended` is twice the
# row_id of the end of the output's attempt, plus 1 if that is a success, so that one look tells both. A step that ran
# again for lost bytes renews just these (rule R6), so that the two halves of the last condition must not be equal: a
# later success, and one that renews it. `+` keeps SQLite from a search for each kind where a step has a few rows.
OUTPUTS = f"""
CREATE VIEW outputs AS
WITH undone AS MATERIALIZED (SELECT run, op, step, row_id FROM invalidations),
lost AS MATERIALIZED (
    SELECT runs.run, named.value AS step, json_group_array(json_array(row_id, label.value)) AS labels
    FROM runs JOIN events ON events.run = runs.run AND events.step IS NULL AND body ->> '$.lost' IS NOT NULL
    JOIN json_each(body, '$.steps') AS named JOIN json_each(body, '$.lost') AS label
    GROUP BY runs.run, named.value
), told AS (
    SELECT runs.run, runs.id AS run_id, step, substr(step, 1, instr(step || '[', '[') - 1) AS op,
           max(row_id) FILTER (WHERE kind IN ('StepStarted', 'StepReused')) AS started,
           max(row_id) FILTER (WHERE kind = 'StepSucceeded') AS succeeded
    FROM runs CROSS JOIN events ON events.run = runs.run AND step IS NOT NULL AND key IS NULL
    GROUP BY runs.id, step
), marked AS (
    SELECT told.*, event.row_id, event.key, event.body,
           max(coalesce(of_step.row_id, 0), coalesce(of_op.row_id, 0)) AS undone,
           event.body ->> '$.output' || iif(event.key IS NULL, '', '[' || {_escaped("event.key")} || ']') AS label,
           (SELECT min(2 * row_id + (kind = 'StepSucceeded')) FROM events AS next
            WHERE next.run = told.run AND next.step = told.step AND next.key IS NULL
            AND +next.row_id > event.row_id AND +next.kind IN
                ('StepSucceeded', 'StepFailed', 'StepRetried', 'StepStarted', 'StepReused')) AS ended
    FROM told
    LEFT JOIN undone AS of_step ON of_step.run = told.run AND of_step.step = told.step
    LEFT JOIN undone AS of_op ON of_op.run = told.run AND of_op.op = told.op AND of_op.step IS NULL
    CROSS JOIN events AS event ON event.run = told.run AND event.step = told.step
        AND +event.kind IN ('OutputStored', 'DynamicOutputStored')
)
SELECT run_id, row_id & 4294967295 AS seq, step, op, substr(step, length(op) + 1) AS key_path,
       body ->> '$.output' AS output, key, coalesce(body ->> '$.attempt', 1) AS attempt,
       body ->> '$.reference.path' AS path, coalesce(body ->> '$.reference.base', 0) AS base,
       body ->> '$.reference.size_bytes' AS size_bytes, body ->> '$.reference.sha256' AS sha256,
       body ->> '$.reference.serializer' AS serializer,
       CASE WHEN undone = 0 THEN coalesce(started < row_id AND row_id < succeeded, 0)
            WHEN ended % 2 IS NOT 1 THEN 0
            ELSE EXISTS (
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
            )) END AS accepted
FROM marked"""


def _walk(levels: str, run: str, first: str, count: str) -> str:
    """SQL that gives the key paths below the levels of a node: JSON [[key path, the one above, seq of the piece], …].

    `levels` as in `op_levels`, `first` the keys to begin with; in the order of the last seals. `keys` is the path as
    JSON, kept for as long as a deeper level asks for it.
    """
    return f"""(
    WITH RECURSIVE walk(depth, keys, path, above, rank, piece) AS (
        SELECT json_array_length({first}), {first},
               coalesce((SELECT group_concat('[' || one.value || ']', '') FROM json_each({first}) AS one), ''), '', '',
               NULL
        UNION ALL
        SELECT depth + 1, iif(depth + 1 < {count}, json_insert(keys, '$[#]', {_escaped("piece.key")}), NULL),
               path || '[' || {_escaped("piece.key")} || ']', path, rank || printf('%016d', piece.row_id), piece.seq
        FROM walk
        CROSS JOIN events AS done ON done.row_id = (
            SELECT max(row_id) FROM events AS one WHERE one.run = {run} AND one.key IS NULL
            AND one.kind = 'StepSucceeded' AND one.step =
                json_extract({levels}, '$[' || walk.depth || '].op') || coalesce((
                    SELECT group_concat('[' || json_extract(keys, '$[' || at.value || ']') || ']', '')
                    FROM json_each({levels}, '$[' || walk.depth || '].at') AS at), ''))
        CROSS JOIN events AS begun ON begun.row_id = (
            SELECT max(row_id) FROM events AS one WHERE one.run = {run} AND one.step = done.step AND one.key IS NULL
            AND +one.row_id < done.row_id AND +one.kind IN ('StepStarted', 'StepReused'))
        CROSS JOIN events AS piece ON piece.run = {run} AND piece.step = done.step AND piece.key IS NOT NULL
            AND piece.row_id BETWEEN begun.row_id AND done.row_id
            AND piece.body ->> '$.output' = json_extract({levels}, '$[' || walk.depth || '].output')
        WHERE depth < {count}
    )
    SELECT json_group_array(json_array(path, above, piece)) FROM (
        SELECT path, above, piece FROM walk WHERE depth = {count} ORDER BY rank))"""


# Every sealed key of every op that is cloned, and how the clone stands: one that never started is a row too. The keys
# are those of the last seals, in their order; `latest` is what happened to the clone last. Ops that are not cloned have
# no keys, and are in `steps`.
KEYS = f"""
CREATE VIEW keys AS
WITH marks AS MATERIALIZED (SELECT run, resumed, stopped FROM run_marks),
undone AS MATERIALIZED (SELECT run, op, step, row_id FROM invalidations),
levels AS MATERIALIZED (
    SELECT run, run_id, op, levels, json_array_length(levels) AS depth FROM op_levels WHERE levels <> '[]'
), clones AS (
    SELECT levels.run, run_id, op, path.key AS number,
           path.value ->> '$[0]' AS key_path
    FROM levels JOIN json_each({_walk("levels.levels", "levels.run", "'[]'", "levels.depth")}) AS path
), shown AS (
    SELECT run, run_id, op, number, key_path, op || key_path AS step,
           (SELECT max(row_id) FROM events WHERE events.run = clones.run
            AND events.step = clones.op || clones.key_path AND events.key IS NULL AND +events.kind IN
                ('StepStarted', 'StepReused', 'StepSucceeded', 'StepFailed', 'StepRetried', 'StepSkipped')) AS latest
    FROM clones
)
SELECT run_id, shown.op, number, shown.key_path, shown.step,
       CASE WHEN coalesce(last.row_id, -1) < max(coalesce(of_step.row_id, 0), coalesce(of_op.row_id, 0)) THEN 'pending'
            ELSE CASE last.kind WHEN 'StepSucceeded' THEN 'succeeded' WHEN 'StepSkipped' THEN 'skipped'
                      WHEN 'StepFailed' THEN iif(last.row_id < resumed, 'pending', 'failed')
                      WHEN 'StepRetried' THEN iif(last.row_id < stopped, 'pending', 'waiting')
                      ELSE iif(last.row_id < resumed, 'pending', 'running') END
       END AS status
FROM shown LEFT JOIN events AS last ON last.row_id = shown.latest
LEFT JOIN marks ON marks.run = shown.run
LEFT JOIN undone AS of_step ON of_step.run = shown.run AND of_step.step = shown.step
LEFT JOIN undone AS of_op ON of_op.run = shown.run AND of_op.op = shown.op AND of_op.step IS NULL"""

# From output to output: each stored output, and each event that its attempt read. What was collected is one row, whose
# source is the `CollectResolved`; its members are in `collects`, by the same seq. A step that was taken from a parent
# read nothing here: see the parent.
LINEAGE = """
CREATE VIEW lineage AS
SELECT out.run_id, out.seq, out.step, out.output, out.key, out.path, out.accepted,
       substr(input.fullkey, 10) AS input, source.seq AS source_seq, source.body ->> '$.kind' AS source_kind,
       iif(source.body -> '$.reference' IS NULL, NULL, source.step) AS source_step,
       coalesce(source.body ->> '$.output', source.body ->> '$.source') AS source_output,
       source.key AS source_key, source.body ->> '$.reference.path' AS source_path
FROM outputs AS out JOIN runs ON runs.id = out.run_id
JOIN events AS begun ON begun.row_id = (
    SELECT max(row_id) FROM events AS one WHERE one.run = runs.run AND one.step = out.step AND one.key IS NULL
    AND +one.row_id < (runs.run << 32) + out.seq AND +one.kind IN ('StepStarted', 'StepReused'))
JOIN json_tree(begun.body, '$.inputs') AS input ON input.type = 'integer' AND input.value > 0
JOIN events AS source ON source.row_id = (runs.run << 32) + input.value"""

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
FROM readings JOIN json_each({_walk("readings.levels", "readings.run", "readings.first", "readings.depth")}) AS path"""

VIEWS = {
    "event_list": EVENT_LIST,
    "digests": DIGESTS,
    "run_list": RUN_LIST,
    "run_marks": RUN_MARKS,
    "invalidations": INVALIDATIONS,
    "op_levels": OP_LEVELS,
    "steps": STEPS,
    "outputs": OUTPUTS,
    "keys": KEYS,
    "lineage": LINEAGE,
    "collects": COLLECTS,
}
