import pytest

from localcloud.functions.routes import RouteError, Router, compile_route


@pytest.mark.parametrize(
    ("template", "path", "parameters"),
    [
        ("orders", "orders", {}),
        ("orders", "ORDERS/", {}),
        ("orders", "orders/1", None),
        ("orders/{id}", "orders/a%20b", {"id": "a b"}),
        ("orders/{id}", "orders", None),
        ("orders/{id:int}", "orders/-7", {"id": "-7"}),
        ("orders/{id:int}", "orders/2147483648", None),
        ("orders/{id:int}", "orders/1_0", None),
        ("orders/{id:long}", "orders/2147483648", {"id": "2147483648"}),
        ("orders/{id:int?}", "orders", {}),
        ("orders/{id:int=5}", "orders", {"id": "5"}),
        ("orders/{id=all}", "orders/x", {"id": "x"}),
        ("{*rest}", "", {}),
        ("files/{*rest}", "files/a/b", {"rest": "a/b"}),
        ("files/{**rest}", "files", {}),
        ("{name}.{ext}", "a.b.txt", {"name": "a.b", "ext": "txt"}),
        ("v{version:int}/x", "v2/x", {"version": "2"}),
        ("{id:guid}", "6f9619ff-8b86-d011-b42d-00cf4fc964ff", {"id": "6f9619ff-8b86-d011-b42d-00cf4fc964ff"}),
        ("{id:guid}", "6f9619ff", None),
        ("{on:bool}", "True", {"on": "True"}),
        ("{x:double}", "1.5e3", {"x": "1.5e3"}),
        ("{x:double}", "nan", None),
        ("{when:datetime}", "2026-11-24", {"when": "2026-11-24"}),
        ("{when:datetime}", "soon", None),
        ("{word:alpha}", "abc", {"word": "abc"}),
        ("{word:alpha:minlength(4)}", "abc", None),
        ("{word:length(3)}", "abc", {"word": "abc"}),
        ("{word:length(1,2)}", "abc", None),
        ("{word:maxlength(2)}", "abc", None),
        ("{n:range(1,5)}", "6", None),
        ("{n:min(3)}", "3", {"n": "3"}),
        ("{n:max(3)}", "4", None),
        (r"{ssn:regex(^\d{{3}}-\d+$)}", "123-4", {"ssn": "123-4"}),
        (r"{ssn:regex(^\d{{3}}-\d+$)}", "12-4", None),
    ],
)
def test_a_template_matches_as_in_asp_net(template: str, path: str, parameters: dict[str, str] | None) -> None:
    assert compile_route(template).match(path) == parameters


def test_the_most_specific_route_wins_whatever_the_order() -> None:
    templates = ["{*rest}", "a/{id}", "a/{id:int}", "a/b", "a/x{id}", "{*rest:minlength(9)}"]
    router = Router((compile_route(template), template) for template in templates)
    paths = {"a/b": "a/b", "a/1": "a/{id:int}", "a/z": "a/{id}", "a/xy": "a/x{id}", "q": "{*rest}"}
    for path, template in paths.items():
        found = router.find(path, lambda _: True)
        assert found is not None
        assert found[0] == template
    long = router.find("quite/long", lambda _: True)
    assert long is not None
    assert long[0] == "{*rest:minlength(9)}"


def test_a_target_that_is_not_accepted_leaves_the_place_to_the_next() -> None:
    router = Router([(compile_route("a"), "GET"), (compile_route("{x}"), "POST")])
    assert router.find("a", lambda method: method == "POST") == ("POST", {"x": "a"})
    assert router.find("a", lambda method: method == "PUT") is None


@pytest.mark.parametrize("template", ["a/{", "{id:nothing}", "{id:int(}", "{*a}/b", "{a}/{a}", "{n:range(x)}", "}"])
def test_a_template_that_cannot_be_read_is_refused(template: str) -> None:
    with pytest.raises(RouteError):
        compile_route(template)
