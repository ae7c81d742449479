"""The view of lineage: what each attempt read, and what it stored."""

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
