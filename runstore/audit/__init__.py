"""Questions put to the log. Nothing here writes, and nothing here imports or needs the code of a job.

One question, one module: it is named after the question, has a function of the same name that takes a store and a run
(an id, a unique prefix or `last`), and answers with frozen values; whoever shows them stands above. What it needs of a
whole run comes from one checked reading, `RunStore.state(run_id, look)`; what it needs of a step from `Lookup`, which
reads that step's rows and no others. A new question is a new module here, a line below, and a command that prints its
answer.
"""

from runstore.audit.anchor import Anchor, anchor
from runstore.audit.cat import Content, Found, cat, find_output, printable
from runstore.audit.collect_inputs import CollectInputs, Member, Seal, collect_inputs
from runstore.audit.diff import Changed, OpDiff, RunDiff, Setting, Side, Single, diff
from runstore.audit.doctor import Check, doctor
from runstore.audit.errors import ErrorGroup, errors
from runstore.audit.explain import Explanation, explain
from runstore.audit.export_html import export_html
from runstore.audit.export_lines import export_log, export_rows
from runstore.audit.finding import Finding
from runstore.audit.key_grid import Cell, GridRow, KeyGrid, key_grid
from runstore.audit.keys import KEY_STATES, Key, find_node, find_step, keys, keys_of
from runstore.audit.lineage import (
    Collect,
    Lineage,
    LineageStep,
    Reading,
    lineage,
)
from runstore.audit.lineage_drawing import dot, mermaid, tree
from runstore.audit.messages import messages
from runstore.audit.progress import Progress, progress, progress_of
from runstore.audit.questions import QUESTIONS, Question, datasette_metadata
from runstore.audit.rows import LogRow, rows
from runstore.audit.search import Match, search
from runstore.audit.show import (
    Deleted,
    Epoch,
    FailureKind,
    HookFailures,
    OpSummary,
    RunReport,
    failure_kinds,
    hook_failures,
    show,
)
from runstore.audit.step_report import (
    Pieces,
    StepAttempt,
    StepInput,
    StepOutput,
    StepReport,
    show_step,
)
from runstore.audit.step_story import Fact
from runstore.audit.tables import TABLES, table
from runstore.audit.timeline import Timeline, timeline
from runstore.audit.timeline_drawing import svg
from runstore.audit.timeline_drawing import text as timeline_text
from runstore.audit.verify import Verification, verify
from runstore.audit.who import Writer, Writers, who

__all__ = [
    "KEY_STATES",
    "QUESTIONS",
    "TABLES",
    "Anchor",
    "Cell",
    "Changed",
    "Check",
    "Collect",
    "CollectInputs",
    "Content",
    "Deleted",
    "Epoch",
    "ErrorGroup",
    "Explanation",
    "Fact",
    "FailureKind",
    "Finding",
    "Found",
    "GridRow",
    "HookFailures",
    "Key",
    "KeyGrid",
    "Lineage",
    "LineageStep",
    "LogRow",
    "Match",
    "Member",
    "OpDiff",
    "OpSummary",
    "Pieces",
    "Progress",
    "Question",
    "Reading",
    "RunDiff",
    "RunReport",
    "Seal",
    "Setting",
    "Side",
    "Single",
    "StepAttempt",
    "StepInput",
    "StepOutput",
    "StepReport",
    "Timeline",
    "Verification",
    "Writer",
    "Writers",
    "anchor",
    "cat",
    "collect_inputs",
    "datasette_metadata",
    "diff",
    "doctor",
    "dot",
    "errors",
    "explain",
    "export_html",
    "export_log",
    "export_rows",
    "failure_kinds",
    "find_node",
    "find_output",
    "find_step",
    "hook_failures",
    "key_grid",
    "keys",
    "keys_of",
    "lineage",
    "mermaid",
    "messages",
    "printable",
    "progress",
    "progress_of",
    "rows",
    "search",
    "show",
    "show_step",
    "svg",
    "table",
    "timeline",
    "timeline_text",
    "tree",
    "verify",
    "who",
]
