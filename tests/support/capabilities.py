"""Calls functions without the capability by which root may write to read-only folders."""

import ctypes
import os
import threading

DAC_OVERRIDE = 1 << 1  # the bit of CAP_DAC_OVERRIDE in the first word of a set of capabilities
VERSION = 0x20080522  # of the kernel's interface: three words for each half of 64 capabilities


def call_as_ordinary_user(function):
    """Return `function()`, to which file permissions apply even if root runs the tests.

    A thread calls the function, because capabilities belong to threads, and one that gives up a
    capability never gets it back.
    """
    results = []

    def call():
        try:
            if os.geteuid() == 0:
                give_up_override()
            results.append((function(), None))
        except BaseException as error:
            results.append((None, error))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    [(result, error)] = results
    if error:
        raise error
    return result


def give_up_override():
    """Remove the capability from all sets of this thread."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, words = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, words):
        raise OSError(ctypes.get_errno(), "capget")
    for index in range(3):  # effective, permitted and inheritable capabilities
        words[index] &= ~DAC_OVERRIDE
    if libc.capset(header, words):
        raise OSError(ctypes.get_errno(), "capset")
