"""Makes the function app's package for Azure: the files that .funcignore leaves, as azd takes them.

Run it by scripts/package. Source of the rules: createDeployableZip in azd (Azure/azure-dev), which walks the folder,
asks of each entry whether it is ignored, and goes into no directory that is.
"""

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from pathspec import GitIgnoreSpec

ROOT = Path(__file__).resolve().parents[1]
NEVER_SHIPPED = frozenset({".azure", ".funcignore", "local.settings.json"})
"""What azd leaves out whatever the file says."""


def shipped(root: Path = ROOT) -> list[Path]:
    """Return the files that go to Azure, relative to `root`, in order. Raises OSError where it has no .funcignore."""
    ignored = GitIgnoreSpec.from_lines((root / ".funcignore").read_text(encoding="utf-8").splitlines())
    return sorted(_files(root, root, ignored))


def _files(directory: Path, root: Path, ignored: GitIgnoreSpec) -> Iterator[Path]:
    for entry in directory.iterdir():
        path = entry.relative_to(root)
        if entry.name in NEVER_SHIPPED or ignored.match_file(f"{path}/" if entry.is_dir() else path):
            continue
        if entry.is_dir():
            yield from _files(entry, root, ignored)
        else:
            yield path


def main(target: Path = ROOT / "dist" / "function-app.zip") -> None:
    """Write the package and tell what is in it."""
    files = shipped()
    target.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as package:
        for file in files:
            package.write(ROOT / file, file)
    for file in files:
        print(f"{(ROOT / file).stat().st_size:>9,}  {file}")
    total = sum((ROOT / file).stat().st_size for file in files)
    print(f"{total:>9,}  bytes in {len(files)} files; {target.relative_to(ROOT)} has {target.stat().st_size:,}")


if __name__ == "__main__":
    sys.exit(main())
