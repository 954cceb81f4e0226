import copy
import json

import pytest

from localcloud.functions.lazy_dict import LazyDict

WHOLE = {"ready": 1, "made": [2]}


@pytest.fixture
def lazy():
    made = []

    def rest():
        made.append(None)
        return {"made": [2]}

    lazy = LazyDict({"ready": 1}, rest)
    return lazy, made


def test_a_ready_key_makes_nothing(lazy):
    values, made = lazy
    assert (values["ready"], values.get("ready")) == (1, 1)
    assert made == []


def test_the_rest_is_made_once(lazy):
    values, made = lazy
    assert (values["made"], values.get("made"), values.get("none"), values.get("none", 0)) == ([2], [2], None, 0)
    with pytest.raises(KeyError, match="none"):
        _ = values["none"]
    assert len(made) == 1


@pytest.mark.parametrize(
    "look",
    [
        dict,
        copy.copy,
        copy.deepcopy,
        lambda values: {**values},
        lambda values: values | {},
        lambda values: {} | values,
        lambda values: dict(values.items()),
        lambda values: dict(zip(values.keys(), values.values(), strict=True)),
        lambda values: {key: values[key] for key in values},
        lambda values: json.loads(json.dumps(values)),
        lambda values: eval(repr(values)),
        lambda values: values.copy(),
    ],
)
def test_whoever_looks_at_it_as_a_dict_sees_all_of_it(lazy, look):
    assert look(lazy[0]) == WHOLE


def test_it_equals_the_dict_that_it_stands_for(lazy):
    assert lazy[0] == WHOLE
    assert LazyDict({"ready": 1}, lambda: {"made": [2]}) == WHOLE
    assert "made" in LazyDict({}, lambda: {"made": 1})
    assert len(LazyDict({}, lambda: {"made": 1})) == 1
