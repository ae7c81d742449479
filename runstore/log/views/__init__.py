"""What a person asks `runs.db` in SQL: views over the events, and nothing but the events.

No row of a view is stored, so none can be wrong or late. The program itself asks none of them but `run_list`: its
questions about a step go to the index, those about a whole run to the fold. Ask a view `WHERE run_id = '…'`: the
planner then reads that run alone.

What a view costs is how often it asks a body for a field: SQLite looks through subqueries and computes a column anew
wherever it is named. So a column that is dear is named once, in a join or a CASE, or stands behind a GROUP BY or a
UNION ALL.
"""

from runstore.log.views.collects import COLLECTS
from runstore.log.views.keys import KEYS
from runstore.log.views.levels import OP_LEVELS
from runstore.log.views.lineage import LINEAGE
from runstore.log.views.outputs import OUTPUTS
from runstore.log.views.runs import DIGESTS, EVENT_LIST, RUN_LIST, RUN_MARKS
from runstore.log.views.steps import STEPS
from runstore.log.views.undone import INVALIDATIONS

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
