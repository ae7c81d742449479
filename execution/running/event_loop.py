"""The event loop of one worker, on which its async ops run; made for the first of them, closed with the worker.

It stands still between two of its tasks: while an op that is written with `def` runs, and while what an async
generator gave is stored, so that the next is asked for only then (rule X1). asyncio is imported here alone, and late:
it takes a third of the time of everything else.
"""

from collections.abc import AsyncGenerator, Coroutine, Generator
from typing import TYPE_CHECKING, Any

from execution.errors import StepError

if TYPE_CHECKING:
    import asyncio


class EventLoop:
    """Runs coroutines and async generators for a caller that is not async."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine. On Ctrl-C it is cancelled, and its `finally` blocks run, before the interrupt."""
        import asyncio

        if asyncio._get_running_loop() is not None:
            coroutine.close()
            raise StepError(
                "an event loop is running in this thread already (that of a notebook, or of the caller), so an async "
                "op cannot; run the job in a thread of its own, `await asyncio.to_thread(…)`, or with `runstore run`"
            )
        if self._runner is None:
            self._runner = asyncio.Runner()
        try:
            return self._runner.run(coroutine)
        except (
            asyncio.CancelledError
        ) as error:  # by the op itself; an interrupt is a KeyboardInterrupt by now
            raise StepError(
                "the op's own task was cancelled; catch CancelledError in the op"
            ) from error

    def iterate(self, generator: AsyncGenerator[Any, Any]) -> Generator[Any, None, None]:
        """What an async generator gives; one task drives it from first to last, so its `async with` may span yields."""
        stream = _Stream(generator)
        try:
            while True:
                given = self.run(stream.next())
                if given is _END:
                    return
                yield given
                del given  # not kept while the op is at work on the next
        finally:
            if self._runner is not None:  # closed meanwhile, and everything on it cancelled
                self.run(stream.close())

    def close(self) -> None:
        """Cancel what is left on the loop, let it clean up, and close the loop."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()


_END = object()


class _Stream:
    """An async generator and the one task that drives it, step by step."""

    def __init__(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._generator = generator
        self._task: asyncio.Task[None] | None = None
        self._asked: asyncio.Event
        self._given: asyncio.Queue[Any]

    async def next(self) -> Any:
        """The next value, or _END; raises what the generator raised."""
        import asyncio

        if self._task is None:
            self._asked, self._given = asyncio.Event(), asyncio.Queue()
            self._task = asyncio.create_task(self._drive())
        self._asked.set()
        waiting = asyncio.create_task(self._given.get())
        await asyncio.wait((waiting, self._task), return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        waiting.cancel()
        self._task.result()
        return _END

    async def _drive(self) -> None:
        try:
            await self._asked.wait()
            async for given in self._generator:
                self._asked.clear()
                self._given.put_nowait(given)
                del given
                await self._asked.wait()
        finally:
            await self._generator.aclose()

    async def close(self) -> None:
        """Stop the generator where it is, if it has not ended, and let it clean up."""
        import asyncio

        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait((self._task,))
        elif self._task is None:
            await self._generator.aclose()
