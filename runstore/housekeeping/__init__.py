"""Seeing to the storage of runs: is it fit, what may go, take it elsewhere.

Whoever deletes or moves is the run's one writer, in an epoch of its own in which no step runs, and says so in the log
first: an event that is durable, then the bytes. What decides is pure (`inventory.py`, `surplus.py`); what acts stands
above it. Each function answers with frozen values; whoever shows them stands above.
"""

from runstore.housekeeping.move import Moved, move
from runstore.housekeeping.probe import Tried, probe
from runstore.housekeeping.prune import Pruned, prune
from runstore.housekeeping.surplus import Amount

__all__ = ["Amount", "Moved", "Pruned", "Tried", "move", "probe", "prune"]
