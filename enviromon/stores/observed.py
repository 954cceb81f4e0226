"""Stores whose calls are measured: how long each took, what failed, what was written and what was refused."""

import inspect
import time
from collections import Counter
from typing import Any, cast

from msgspec import structs

from enviromon.instruments import (
    DEAD_LETTERS,
    STATE_WRITES,
    STORAGE_FAILURES,
    STORAGE_SECONDS,
    NoRecorder,
    Recorder,
)
from enviromon.stores import DeadLetter, Result, Stores


def observed(stores: Stores, recorder: Recorder) -> Stores:
    """Return the stores with their calls measured; the very stores where nobody records."""
    if isinstance(recorder, NoRecorder):
        return stores
    names = [name for name in stores.__struct_fields__ if name != "close"]
    return structs.replace(stores, **{name: _Observed(name, getattr(stores, name), recorder) for name in names})


class _Observed:
    """A store with the methods of another; each is looked up once."""

    def __init__(self, name: str, store: object, recorder: Recorder) -> None:
        self._name = name
        self._store = store
        self._recorder = recorder

    def __getattr__(self, operation: str) -> Any:
        call = getattr(self._store, operation)
        if not inspect.iscoroutinefunction(call):
            return call
        name, recorder = self._name, self._recorder
        tell = _TELLING.get((name, operation), _tell_nothing)

        async def measured(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                done = await call(*args, **kwargs)
            except Exception as error:
                recorder.add(STORAGE_FAILURES, 1, name, operation, type(error).__name__)
                raise
            recorder.add(STORAGE_SECONDS, time.perf_counter() - started, name, operation)
            tell(recorder, args, done)
            return done

        setattr(self, operation, measured)
        return measured


def _tell_nothing(_recorder: Recorder, _args: tuple[Any, ...], _done: Any) -> None:
    pass


def _tell_writes(recorder: Recorder, _args: tuple[Any, ...], done: Any) -> None:
    for outcome, count in Counter(result.outcome for result in cast("list[Result]", done)).items():
        recorder.add(STATE_WRITES, count, outcome.value)


def _tell_letters(recorder: Recorder, args: tuple[Any, ...], _done: Any) -> None:
    for reason, count in Counter(letter.reason for letter in cast("list[DeadLetter]", args[0])).items():
        recorder.add(DEAD_LETTERS, count, reason)


_TELLING = {("devices", "compare_and_set"): _tell_writes, ("dead_letters", "add"): _tell_letters}
