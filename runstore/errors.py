"""Everything that runstore raises on purpose: one base, its children by what the caller can do about it.

A message gives the fact, the address and the remedy. Nothing here carries storage options or credentials.
"""


class RunStoreError(Exception):
    """The base of every error that runstore raises on purpose."""


class InvalidKey(RunStoreError, ValueError):
    """A run id, mapping key or step key that breaks rule K1 or K2. Remedy: another key."""


class ConfigError(RunStoreError, ValueError):
    """A setting or a run config that cannot be used as written. Remedy: correct it."""


class StoreNotFound(RunStoreError, LookupError):
    """No store where one was looked for; the message lists the places."""


class RunNotFound(RunStoreError, LookupError):
    """No run, or more than one, answers to the given name in this store."""


class StepNotFound(RunStoreError, LookupError):
    """The run has no such step, output or key."""


class StorageFailed(RunStoreError, OSError):
    """The disk or service under the log or the outputs refused (full, read-only, gone).

    Nothing that was acknowledged is lost. Remedy: mend the storage, then resume.
    """


class TransferFailed(StorageFailed):
    """A request to the service under the outputs failed at its last try, while others may get through.

    It ends the attempt that needed it, as a failure, not the run. Remedy: a retry policy, or a resume.
    """


class OutputConflict(StorageFailed):
    """Other bytes lie at an address that this run has never used: another run of the same id writes there."""


class StoreBusy(StorageFailed):
    """Another process held the store's write lock for longer than the limit."""


class RunConflict(RunStoreError):
    """A run has one writer, and it is not this one.

    `run_id`: that run; empty where who raises it knows the run by its number alone.
    """

    def __init__(self, message: str, run_id: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id


class RunAlive(RunConflict):
    """The run is being executed by a living process. Remedy: wait, cancel it, or take over."""


class TakenOver(RunConflict):
    """A newer epoch has appended to this run: this executor must stop and touch nothing."""


class RunInUse(RunStoreError):
    """Other runs use outputs of this one. Remedy: delete those first, or force it."""


class LogDamaged(RunStoreError):
    """The log of a run is not what was appended. The message names run and seq; nothing was written.

    `rule`: the number of the rule of FORMAT.md, section Validity, that is broken; empty for damage of another kind.
    """

    def __init__(self, message: str, rule: str = "") -> None:
        super().__init__(message)
        self.rule = rule


class FormatTooNew(RunStoreError):
    """Written by a newer runstore. Remedy: upgrade; nothing was written."""


class NotStorable(RunStoreError, TypeError):
    """A value that no serializer gives back exactly as it was. Remedy: annotate, register, or allow pickle."""


class NotReadable(RunStoreError):
    """Stored bytes are there and as they were, and this process cannot make a value of them.

    Remedy: import what registers their serializer, or read them with the code that stored them.
    """


class ExtraMissing(RunStoreError, ImportError):
    """A format needs a package that is not installed. Remedy: `pip install 'runstore[…]'`."""

    @classmethod
    def of(cls, package: str, extra: str) -> "ExtraMissing":
        """The error for a package and the extra that brings it."""
        return cls(
            f"this format needs {package}, which is not installed; `pip install 'runstore[{extra}]'`"
        )


class OutputLost(RunStoreError):
    """The stored bytes of an output are missing or are not those that the log names."""


class OutputMissing(OutputLost):
    """No object at the reference's address."""


class OutputCorrupted(OutputLost):
    """The object at the reference's address differs in size or sha256 from the log."""
