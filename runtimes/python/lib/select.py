"""`select` without descriptors to wait for: there are no sockets to watch (see `_socket`), so it is a way to sleep."""

import time

error = OSError


def select(rlist, wlist, xlist, timeout=None):
    """Everything asked for is ready at once; with nothing asked for, waits."""
    if rlist or wlist:
        return list(rlist), list(wlist), []
    if timeout is None:
        raise OSError("select() would wait forever: there is nothing to wait for")
    time.sleep(max(0, timeout))
    return [], [], []
