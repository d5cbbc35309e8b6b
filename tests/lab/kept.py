"""Directories that are expensive to make, kept between runs.

They are below VOLPLUG_TEST_CACHE (by default ~/.cache/volplug-tests), which may be deleted at any time
when no test runs. Callers must not change them: other tests use them, too.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# One open descriptor for each directory that this process uses; closed by the kernel at its end.
_in_use: dict[Path, int] = {}


def cache() -> Path:
    """The directory of all of them."""
    named = os.environ.get("VOLPLUG_TEST_CACHE")
    directory = Path(named) if named else Path.home() / ".cache" / "volplug-tests"
    directory.mkdir(parents=True, exist_ok=True)
    return directory.resolve()


def kept(kind: str, key: str, make: Callable[[Path], None], max_age_s: float) -> Path:
    """Return a directory that ``make`` fills, made only if there is no recent one of this kind and key.

    Args:
        kind: a word; when one of a kind is made, those of that kind that are too old are removed.
        key: a word for what the content depends on.
        make: called with an empty directory; if it fails, nothing is kept. Concurrent processes with
            the same key call it once.
        max_age_s: after this time it is made again.
    """
    with _alone(cache() / f"{kind}-{key}.lock"):
        for abandoned in cache().glob(f"unfinished-{kind}-{key}-*/"):
            shutil.rmtree(abandoned)
        made = sorted(cache().glob(f"{kind}-{key}-*/"))
        young = [each for each in made if _age_s(each) < max_age_s]
        newest = young[-1] if young else _make(make, kind, key, max_age_s)
        _use(newest)
    return newest


def _make(make: Callable[[Path], None], kind: str, key: str, max_age_s: float) -> Path:
    unfinished = Path(tempfile.mkdtemp(prefix=f"unfinished-{kind}-{key}-", dir=cache()))
    try:
        content = unfinished / "content"
        content.mkdir()
        make(content)
        finished = content.rename(cache() / f"{kind}-{key}-{int(time.time())}")
    finally:
        shutil.rmtree(unfinished)
    for other in cache().glob(f"{kind}-*-*/"):
        if _age_s(other) >= max_age_s:
            _remove_unless_used(other)
    return finished


def _age_s(made: Path) -> float:
    return time.time() - int(made.name.rpartition("-")[2])


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _use(made: Path) -> None:
    if made not in _in_use:
        _in_use[made] = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(_in_use[made], fcntl.LOCK_SH)


def _remove_unless_used(made: Path) -> None:
    descriptor = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(made)
    except BlockingIOError:
        return  # it is in use; a later run removes it
    finally:
        os.close(descriptor)
