"""Files that only their owner may read, replaced in one step."""

import os
from pathlib import Path


def write_private(path: Path, content: bytes) -> None:
    """Replace a file (mode 0600), durably: a reader sees the old or the new, whenever the writer dies."""
    temporary = path.with_name(f"{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
