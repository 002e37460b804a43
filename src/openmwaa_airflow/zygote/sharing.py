"""Memory that children go on sharing, and that is cheap to fork.

A page is copied as soon as one object on it is touched, if only to count a reference. So what every child
touches is put together, and what none touches lies on large pages: the tables of such a page are neither copied
for a child nor taken apart at its end. With 330 MB on small pages that takes 36 ms of CPU time for each fork.
"""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import gc
import logging
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

_LARGE = 2 << 20
_BYTES_BLOCKS = range(512, 32, -16)
"""Sizes of the blocks that Python allocates itself and that an object of bytes can have."""

_OF_THE_C_LIBRARY = tuple(1 << power for power in range(20, 4, -1))
_plugs: list[object] = []
_tried: set[int] = set()
"""Where large pages were asked for."""

_COLLAPSE = 25
"""MADV_COLLAPSE, since Linux 6.1: make one large page of many small ones now."""


def make_loggers(names: Iterable[str]) -> None:
    """Make loggers before the modules that would: each child sets logging up, and that touches all of them."""
    for name in names:
        logging.getLogger(name)


def settle() -> None:
    """Keep children from touching what they share: the collector leaves it alone from now on.

    To be called again when more was made.
    """
    gc.collect()
    gc.freeze()
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(AttributeError, OSError, ValueError):
        _fill_holes()
        if not _is_watched():
            _use_large_pages()


def _fill_holes() -> None:
    """Use up what is free between the objects that there are, so that children's own lie elsewhere.

    Python and the C library give out the holes of what is in use first, and each is on a page, and among
    large pages, that a child would otherwise not touch.
    """
    ours = _own_memory()
    begins = [begin for begin, _ in ours]

    def is_new(address: int) -> bool:
        before = bisect.bisect_right(begins, address) - 1
        return before < 0 or address >= ours[before][1]

    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = (ctypes.c_size_t,)
    libc.free.argtypes = (ctypes.c_void_p,)
    for size in _OF_THE_C_LIBRARY:
        while not is_new(block := libc.malloc(size) or 0):  # 0: there is no more memory
            pass
        libc.free(block)
    empty = sys.getsizeof(b"")
    makers: list[Callable[[], object]] = [partial(bytes, size - empty) for size in _BYTES_BLOCKS]
    for make in (*makers, partial(int, "1000000"), object):  # the last two: blocks of 32 and of 16 bytes
        while not is_new(id(plug := make())):
            _plugs.append(plug)


def _use_large_pages() -> None:
    """Ask for them wherever there is memory of our own; where the kernel has none, nothing changes."""
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for begin, end in _own_memory():
        first = -(-begin // _LARGE) * _LARGE
        for address in range(first, end - _LARGE + 1, _LARGE):
            if address not in _tried:  # of what another process shares by now it would make a copy
                _tried.add(address)
                advise(address, _LARGE, _COLLAPSE)


def _is_watched() -> bool:
    """Return whether the kernel samples which memory is used (DAMON).

    To do so it goes through all of a large page in each process that shares some of it: with 40 processes that
    took a fifth of a processor and more, which is more than large pages save.
    """
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            is_of_the_kernel = not path.with_name("cmdline").read_bytes()
            if is_of_the_kernel and path.read_bytes().startswith(b"kdamond"):
                return True
    return False


def _own_memory() -> list[tuple[int, int]]:
    """Return where this process has memory that belongs to no file: begins and ends, in order."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, rights, _, _, _, *name = line.split(None, 5)
        if rights == "rw-p" and name in ([], ["[heap]"]):
            begin, end = (int(one, 16) for one in addresses.split("-"))
            found.append((begin, end))
    return found
