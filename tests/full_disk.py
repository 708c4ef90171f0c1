"""A disk that is full: files may grow to some bytes and no further."""

import resource
from contextlib import contextmanager


@contextmanager
def room_for(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
