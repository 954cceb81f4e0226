from pathlib import Path

import pytest

from localcloud.limits import OTHER_FILES, CloudLimits, LimitsError, read_limits, within


def test_a_file_sets_what_it_names_and_leaves_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "limits.json"
    file.write_text('{"iothub": {"connections": 7, "connect_seconds": 2}, "functions": {"outstanding_requests": -1}}')
    limits = read_limits(file)
    assert (limits.iothub.connections, limits.iothub.connect_seconds) == (7, 2.0)
    assert limits.functions.outstanding_requests == -1
    assert limits.signalr == CloudLimits().signalr


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("{", "truncated"),
        ("[]", "Expected `object`"),
        ('{"iot": {}}', "there is no 'iot'"),
        ('{"iothub": {"conections": 1}}', "iothub has no 'conections'"),
        ('{"iothub": {"connections": "many"}}', "Expected `int`"),
        ('{"iothub": {"connections": 0}}', "must be above 0"),
        ('{"web": {"sockets": -1}}', "must be above 0"),
        ('{"iothub": {"connections": null}}', "Expected `int`"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, rule: str) -> None:
    file = tmp_path / "limits.json"
    file.write_text(text)
    with pytest.raises(LimitsError, match=rule) as raised:
        read_limits(file)
    assert str(file) in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LimitsError, match=r"nowhere\.json"):
        read_limits(tmp_path / "nowhere.json")


@pytest.mark.parametrize("open_files", [1024, 4096, 20_000])
def test_limits_shrink_to_the_files_that_may_be_open(open_files: int) -> None:
    limits = within(CloudLimits(), open_files)
    assert open_files - OTHER_FILES - 4 <= limits.sockets() <= open_files - OTHER_FILES


def test_limits_that_fit_stay_as_they_are() -> None:
    limits = CloudLimits()
    assert within(limits, limits.sockets() + OTHER_FILES) is limits


def test_every_limit_is_documented_with_its_default() -> None:
    lines = (Path(__file__).parents[2] / "docs" / "security.md").read_text().splitlines()
    documented = {cells[1].strip(" `"): cells[2].strip() for line in lines if len(cells := line.split("|")) == 5}
    for service in CloudLimits.__struct_fields__:
        limits = getattr(CloudLimits(), service)
        for name in limits.__struct_fields__:
            default = getattr(limits, name)
            shown = documented.pop(f"{service}.{name}")
            assert shown in (f"{default:g}" if isinstance(default, float) else str(default), "none", "host.json's")
    assert not [name for name in documented if "." in name and name.split(".")[0] in CloudLimits.__struct_fields__]
