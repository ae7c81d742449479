"""What becomes of an attempt whose worker is gone, or was stopped: told in its stead, since nobody else can.

A worker may be lost for reasons of the machine (out of memory, a kill by hand), so its step is tried again without
using up what the op allows; or for reasons of the step, so not for ever: a poisonous key must not take the run down.
"""

from execution.errors import StepTimedOut, WorkerLost
from execution.running.failing import describe_error, failed
from execution.running.hook_runner import HookTicket
from execution.running.told import Ticket, Told
from runstore.log.events import UNSTAMPED, HookFailed, StepFailed, StepRetried

TRIED_AGAIN = 3
"""How often a step is, in one epoch, whose workers were lost."""


def told_of_loss(
    ticket: Ticket | HookTicket, fact: str, duration_s: float, worker: str = ""
) -> Told:
    """The last word of an attempt, or of the call of a hook; `fact`: how its worker ended, `worker`: its name."""
    if isinstance(ticket, HookTicket):
        context = ticket.context
        lost = WorkerLost(f"hook {context.hook_name!r} of step {context.step_key!r}: {fact}")
        error = describe_error(lost)
        return Told(
            context.step_key,
            (HookFailed(context.step_key, context.hook_name, error, context.attempt),),
        )
    key, attempt = ticket.step_key, ticket.context.attempt
    if ticket.losses < TRIED_AGAIN:
        error = describe_error(WorkerLost(f"step {key!r}: {fact}; it is tried again"))
        again = StepRetried(key, error, duration_s, UNSTAMPED, attempt, True, worker)
        return Told(key, (again,), wait_s=0.0)
    final = WorkerLost(
        f"step {key!r}: {fact}, as {TRIED_AGAIN} before; see whether it runs out of memory or ends its process, then "
        "`runstore resume`"
    )
    failed = StepFailed(key, describe_error(final), duration_s, attempt, worker)
    return Told(key, (failed,), exception=final)


def told_of_timeout(
    ticket: Ticket, duration_s: float, worker: str = "", how: str = "its process was killed"
) -> Told:
    """The last word of an attempt whose worker was ended since it took too long; its retry policy applies."""
    error = StepTimedOut(
        f"step {ticket.step_key!r} took longer than its timeout of {ticket.op.timeout_s:g} s; {how}"
    )
    return failed(ticket, [], error, duration_s, worker)
