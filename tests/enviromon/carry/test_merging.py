from msgspec import structs

from enviromon.carry.merging import Fate, includes, merged
from enviromon.device_state import DeviceState, fold
from tests.enviromon.test_device_state import arrival, run

OLD, _ = run(arrival(1, light=1.0), arrival(2))
NEW = structs.replace(fold(OLD, "namespace/hub/0", [arrival(3, light=3.0)]).state, revision=2)
ELSEWHERE, _ = run(arrival(1, light=7.0), stream="other/hub/0")


def test_a_state_where_there_is_none_is_written_as_it_is():
    assert merged(None, NEW, overwrite=False).state == NEW


def test_the_same_again_changes_nothing():
    for held in (NEW, structs.replace(NEW, revision=99)):
        assert merged(held, NEW, overwrite=True).fate is Fate.UNCHANGED


def test_the_newer_state_comes_in_place_of_the_older_and_never_the_other_way():
    done = merged(OLD, NEW, overwrite=False)
    assert (done.fate, structs.replace(done.state, revision=0)) == (Fate.REPLACED, structs.replace(NEW, revision=0))
    done = merged(NEW, OLD, overwrite=False)
    assert (done.fate, done.state) == (Fate.NEWER, None)


def test_what_has_gone_on_here_after_the_move_is_newer():
    gone_on = fold(NEW, "other/hub/0", [arrival(0, light=9.0)]).state
    assert merged(gone_on, NEW, overwrite=False).fate is Fate.NEWER


def test_two_that_went_different_ways_are_refused_unless_told():
    assert merged(ELSEWHERE, NEW, overwrite=False).fate is Fate.REFUSED
    done = merged(ELSEWHERE, NEW, overwrite=True)
    assert done.fate is Fate.REPLACED
    assert done.state.ledger == NEW.ledger


def test_a_revision_never_falls_since_pages_merge_by_it():
    held = structs.replace(OLD, revision=500)
    assert merged(held, NEW, overwrite=False).state.revision == 501
    assert merged(held, structs.replace(NEW, revision=900), overwrite=False).state.revision == 900


def test_of_two_that_read_and_counted_the_same_the_later_revision_is_the_newer():
    removed = structs.replace(NEW, removed_at=5, metrics={}, revision=NEW.revision + 1)
    assert merged(NEW, removed, overwrite=False).fate is Fate.REPLACED
    assert merged(removed, NEW, overwrite=False).fate is Fate.NEWER


def test_a_replay_makes_a_state_newer():
    replayed = structs.replace(
        OLD, ledger=structs.replace(OLD.ledger, accepted=OLD.ledger.accepted + 1, rejected=0), revision=OLD.revision
    )
    assert includes(replayed, OLD)
    assert not includes(OLD, replayed)


def test_every_state_includes_that_of_a_device_which_said_nothing():
    assert includes(NEW, DeviceState("d1"))
