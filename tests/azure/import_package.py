"""Imports every module of the package in the directory given, in the environment it runs in, and tells what came."""

import importlib
import importlib.metadata
import json
import re
import sys
from pathlib import Path

root = Path(sys.argv[1])
sys.path.insert(0, str(root))
for file in sorted(root.rglob("*.py")):
    importlib.import_module(".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"))

app = sys.modules["function_app"].app
imported = {name: str(getattr(module, "__file__", None)) for name, module in sys.modules.items()}
ours = {name: file for name, file in imported.items() if name.split(".")[0] in {"enviromon", "localcloud"}}
installed = {
    re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower(): found for found in importlib.metadata.distributions()
}
told = {
    "functions": [function.get_function_name() for function in app.get_functions()],
    "from elsewhere": [name for name, file in ours.items() if not file.startswith(str(root))],
    "installed": list(installed),
    "imported": [
        name
        for name, found in installed.items()
        if {str(found.locate_file(file)) for file in found.files or []} & set(imported.values())
    ],
}
json.dump(told, sys.stdout)
