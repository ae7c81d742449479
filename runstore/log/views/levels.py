"""The levels that ops are cloned for, and the key paths below them by the last seals."""

from runstore.log.views.written_keys import escaped

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


def key_paths(levels: str, run: str, first: str, count: str) -> str:
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
        SELECT depth + 1, iif(depth + 1 < {count}, json_insert(keys, '$[#]', {escaped("piece.key")}), NULL),
               path || '[' || {escaped("piece.key")} || ']', path, rank || printf('%016d', piece.row_id), piece.seq
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
