"""Where the function app and the page are: in a checkout at its root, in an installed package beside the code."""

from pathlib import Path

import enviromon

_PACKAGE = Path(enviromon.__file__).parent
_INSTALLED = _PACKAGE / "app"
_CHECKOUT = _PACKAGE.parent


def app_directory() -> Path:
    """The directory of function_app.py and host.json."""
    return _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT


def page_directory() -> Path | None:
    """The built page, or None where it was not built."""
    page = _INSTALLED / "dashboard" if _INSTALLED.is_dir() else _CHECKOUT / "dashboard" / "dist"
    return page if (page / "index.html").is_file() else None
