"""Apps that Azure's worker refuses, with its words, recorded from azure-functions-runtime 1.3.0."""

HEAD = "import typing\nfrom typing import List\nimport azure.functions as func\napp = func.FunctionApp()\n"
HUB = '@app.event_hub_message_trigger(arg_name="e", connection="c", event_hub_name="h", cardinality="many"{more})\n'
OUT = '@app.generic_output_binding(arg_name="o", type="signalR", hubName="x")\n'
ROUTE = '@app.route(route="r")\n'

REFUSED = [
    (
        HUB.format(more="") + "def f(e: list[func.EventHubEvent]): pass",
        (
            "cannot load the f function: binding e has invalid non-type annotation "
            "list[azure.functions._eventhub.EventHubEvent]"
        ),
    ),
    (
        ROUTE + "def f(req: func.HttpRequest) -> func.HttpResponse | None: pass",
        (
            "cannot load the f function: has invalid non-type return annotation "
            "azure.functions._http.HttpResponse | None"
        ),
    ),
    (
        ROUTE + "def f(req: func.HttpRequest, extra: int = 1) -> str: pass",
        (
            "cannot load the f function: the following parameters are declared in Python but not in the function "
            "definition (function.json or function decorators):  {'extra'}"
        ),
    ),
    (
        ROUTE + OUT + "def f(req: func.HttpRequest) -> str: pass",
        (
            "cannot load the f function: Extra parameters in binding definition — the following parameters are "
            "declared as bindings but are not present in Python: {'o'}"
        ),
    ),
    (
        ROUTE + OUT + "def f(req: func.HttpRequest, o: func.Out[dict]) -> str: pass",
        (
            "cannot load the f function: "
            'binding type "\'o\'" and dataType "signalR" in the binding decorator do not '
            "match the corresponding function parameter's Python type annotation dict"
        ),
    ),
    (
        ROUTE + OUT + "def f(req: func.HttpRequest, o: func.Out) -> str: pass",
        "cannot load the f function: binding o has invalid Out annotation <class 'azure.functions._abc.Out'>",
    ),
    (
        ROUTE + OUT + "def f(req: func.HttpRequest, o: str) -> str: pass",
        (
            'cannot load the f function: binding o is declared to have the "out" direction, but its annotation in '
            "Python is not a subclass of azure.functions.Out"
        ),
    ),
    (
        ROUTE + "def f(req: func.Out[str]) -> str: pass",
        (
            "cannot load the f function: "
            'binding req is declared to have the "in" direction in the binding decorator, '
            "but its annotation is azure.functions.Out in Python"
        ),
    ),
    (
        ROUTE + "def f(req: func.HttpRequest) -> dict: pass",
        'cannot load the f function: Python return annotation "dict" does not match binding type "http"',
    ),
    (
        ROUTE + "def f(req: func.HttpRequest) -> func.Out[str]: pass",
        "cannot load the f function: return annotation should not be azure.functions.Out",
    ),
    (
        ROUTE + "def f(req: func.HttpRequest, context: str) -> str: pass",
        (
            "cannot load the f function: "
            'the "context" parameter is expected to be of type azure.functions.Context, '
            "got \"<class 'str'>\""
        ),
    ),
    (
        HUB.format(more=', data_type="undefined"') + "def f(e: int): pass",
        (
            "cannot load the f function: "
            'type of e binding in the binding decorator "eventHubTrigger" does not match '
            'its Python annotation "int"'
        ),
    ),
]
"""Source after HEAD, and the FunctionLoadError's message."""

FAILING_OTHERWISE = [
    ("again = app", ValueError, "More than one FunctionApp or other top level function app instances are defined."),
    ("del app", ValueError, "Could not find top level function app instances in function_app.py."),
    (
        ROUTE + OUT + "def f(req: func.HttpRequest, o: func.Out[List[str]]) -> str: pass",
        TypeError,
        "issubclass() arg 1 must be a class",
    ),
    (
        (
            '@app.timer_trigger(arg_name="t", schedule="* * * * *")\n'
            '@app.retry(strategy="fixed_delay", max_retry_count="1", delay_interval="5 s")\ndef f(t): pass'
        ),
        ValueError,
        "time data '5 s' does not match format '%H:%M:%S'",
    ),
    (ROUTE + "def f(req): pass\n" + ROUTE + "def f(req): pass", ValueError, "does not have a unique function name"),
    ("@app.function_name(name='f')\ndef f(): pass", ValueError, "does not have a trigger"),
]
"""Source after HEAD, the error's class, and what its message contains."""
