"""A disk of one's own that can be full or read-only, and a clock that can be set back."""

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

DISK_BYTES = 24 << 20
FILE_BYTES = 256 << 10
"""The event log's journal gets there in a second, the process's own log does not."""
FAKETIME = "*/faketime/libfaketime.so.1"


class SmallDisk:
    """A tmpfs."""

    full = "no room is left for", "events.db: free some space on its disk"
    """What the log says when it is."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, _pid: int | None) -> None:
        """Leave no room at all."""
        with (self.path / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            for size in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        ballast.write(bytes(size))

    def free(self, _pid: int | None) -> None:
        (self.path / "ballast").unlink()

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Nothing can be written within."""
        self._set_writable(writable=False)
        try:
            yield
        finally:
            self._set_writable(writable=True)

    def _set_writable(self, *, writable: bool) -> None:
        subprocess.run(["mount", "-o", f"remount,{'rw' if writable else 'ro'}", str(self.path)], check=True)


class LimitedProcess(SmallDisk):
    """Where nothing may be mounted: the process's files cannot grow, its directory cannot be written."""

    full = "the disk failed at", "events.db (disk I/O error): see to the disk"  # SQLite takes EFBIG for that

    def fill(self, pid: int | None) -> None:
        assert pid is not None
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (FILE_BYTES, resource.RLIM_INFINITY))

    def free(self, pid: int | None) -> None:
        if pid is not None:  # a new process has no limit
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def _set_writable(self, *, writable: bool) -> None:
        for path in (self.path, *self.path.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200 if writable else path.stat().st_mode & ~0o222)


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[SmallDisk]:
    """Mount one at `path`, or limit processes where this is not allowed."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "enviromon-test", str(path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        assert os.geteuid() != 0, "root that may not mount can be stopped by no permission: run as another user"
        yield LimitedProcess(path)
        return
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


class Clock:
    """The wall clock of processes that are started with its environment; it can be moved while they run."""

    def __init__(self, file: Path) -> None:
        found = [str(path) for path in Path("/usr/lib").glob(FAKETIME)]
        assert found, "libfaketime is missing: apt-get install libfaketime"
        self._file = file
        self.move(0)
        self.environment = {
            "LD_PRELOAD": found[0],
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def move(self, seconds: int) -> None:
        """Set it so many seconds ahead of the true one."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.rename(self._file)
