"""asyncio without sockets, threads or signals: an event loop that knows timers and callbacks, and nothing to wait for else.

A loop that would wait forever says so: nothing from outside can ever wake it.
"""

import asyncio
import time
from asyncio import base_events


class Deadlock(RuntimeError):
    """Everything waits, and nothing is left that could happen."""


class _Timer:
    """Stands where a selector does: `select` is where the loop waits."""

    def select(self, timeout=None):
        if timeout is None:
            raise Deadlock("the coroutine waits for something that can no longer happen")
        if timeout > 0:
            time.sleep(timeout)
        return []


class Loop(base_events.BaseEventLoop):
    """The event loop of actions."""

    def __init__(self):
        super().__init__()
        self._selector = _Timer()

    def _process_events(self, event_list):
        pass

    def _write_to_self(self):
        pass

    def run_in_executor(self, executor, func, *args):
        """There is one thread: the call is made at once."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            future.set_exception(error)
        return future

    async def getaddrinfo(self, host, port, *, family=0, type=0, proto=0, flags=0):
        import socket

        return socket.getaddrinfo(host, port, family, type, proto, flags)


class _Policy(asyncio.DefaultEventLoopPolicy):
    _loop_factory = Loop


asyncio.set_event_loop_policy(_Policy())


def run(coroutine):
    """An `async def main`, run to its end."""
    return asyncio.run(coroutine)
