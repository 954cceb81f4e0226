import pytest

from localcloud.faults.plan import Chance, Fault, FaultPlanError, parse_plan


def fates(fault: Fault, count: int, seed: str = "1") -> str:
    chance = Chance(fault, seed)
    return "".join("x" if chance.strikes() else "." for _ in range(count))


def fault(**options: object) -> Fault:
    return Fault(point="function.begins", action="fail", **options)  # type: ignore[arg-type]


def test_a_fault_strikes_always_unless_told_otherwise() -> None:
    assert fates(fault(), 5) == "xxxxx"


def test_it_lets_some_pass_and_strikes_so_often_at_most() -> None:
    assert fates(fault(skip=2, times=2), 6) == "..xx.."


def test_the_same_seed_gives_the_same_fates_and_another_others() -> None:
    likely = fault(probability=0.3)
    assert fates(likely, 200) == fates(likely, 200) != fates(likely, 200, seed="2")
    assert 30 < fates(likely, 200).count("x") < 90


def test_a_run_is_an_outage_of_that_many_in_a_row() -> None:
    found = fates(fault(probability=0.05, run=7), 2000)
    assert {len(outage) % 7 for outage in found.strip(".").split(".") if outage} == {0}
    assert "x" in found


def test_nothing_is_injected_where_nothing_is_planned() -> None:
    assert parse_plan("", "f").describe() == []


def test_a_plan_describes_itself() -> None:
    plan = parse_plan(
        '[[fault]]\npoint = "output.begins"\naction = "time_out"\nprobability = 0.5\nrun = 3\nfunction = "f"\n'
        '[[fault]]\npoint = "read.begins"\naction = "redeliver"\nevents = 7\n'
        '[throttle]\ntier = "S1"\n[app_settings]\nMODE = "odd"',
        "f",
    )
    assert plan.describe() == [
        "output.begins of f: time_out after 1 s, with probability 0.5, 3 times in a row",
        "read.begins: redeliver the last 7 events, always",
        "IoT Hub's limits of 1 unit(s) of S1",
        "the app's setting MODE",
    ]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[[fault]]", "point"),
        ('[[fault]]\npoint = "elsewhere"\naction = "fail"', "elsewhere"),
        ('[[fault]]\npoint = "read.begins"\naction = "explode"', "explode"),
        ('[[fault]]\npoint = "read.begins"\naction = "fail"\nprobability = 2', "probability"),
        ('[[fault]]\npoint = "read.begins"\naction = "fail"\nprobabilty = 1', "probabilty"),
        ('[[fault]]\npoint = "read.begins"\naction = "duplicate"', "duplicate is for the point append.begins"),
        ('[[fault]]\npoint = "read.begins"\naction = "fail"\nfunction = "f"', "belongs to no one function"),
        ('[throttle]\ntier = "S9"', "S9"),
        ("[[fault]", "line 1"),
    ],
)
def test_a_file_that_is_not_acceptable_is_refused_with_what_is_wrong(text: str, named: str) -> None:
    with pytest.raises(FaultPlanError, match=named) as refused:
        parse_plan(text, "faults.toml")
    assert str(refused.value).startswith("faults.toml")
