"""Puts the function app, and the page where it was built, into the wheel."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface[Any]):
    """An installed enviromon finds its app under enviromon/app, a checkout at its root."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        root = Path(self.root)
        included = {"function_app.py": "enviromon/app/function_app.py", "host.json": "enviromon/app/host.json"}
        if (root / "dashboard/dist/index.html").is_file():
            included["dashboard/dist"] = "enviromon/app/dashboard"
        build_data["force_include"].update({str(root / source): target for source, target in included.items()})
