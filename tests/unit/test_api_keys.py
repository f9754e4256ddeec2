"""Keys of the gateway's clients: several each, changed without cutting anybody off, told only by id."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pvf import client
from pvf.stack import api_keys, gateway, gateway_access
from pvf.stack.gateway_config import Upstreams
from pvf.stack.gateway_follow import Follower
from pvf.stack.gateway_options import Options
from pvforecast.errors import InvalidInput, NotReady
from pvforecast.settings import Settings
from tests.unit.test_cli import nothing_runs, pvf

__all__ = ["nothing_runs"]

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "home" / "secrets" / "api-keys.json"


def test_they_begin_with_one_for_desk_that_only_the_owner_can_read(file: Path) -> None:
    keys = api_keys.load(file)
    assert list(keys) == ["desk"]
    (key,) = keys["desk"]
    assert key.key.startswith("pvf_")
    assert not key.limited
    assert file.stat().st_mode & 0o777 == 0o600
    assert api_keys.load(file) == keys


def test_a_client_gets_a_second_key_and_loses_the_first_by_its_id(file: Path) -> None:
    (old,) = api_keys.load(file)["desk"]
    new = api_keys.add(file, "desk")
    assert api_keys.load(file) == {"desk": [old, new]}
    assert api_keys.revoke(file, old.id) == "desk"
    assert api_keys.load(file) == {"desk": [new]}
    with pytest.raises(InvalidInput, match="no client has this key"):
        api_keys.revoke(file, old.id)
    assert api_keys.revoke(file, new.key) == "desk", "a leaked key can be named by itself"


def test_a_file_of_plain_keys_is_read(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_text('{"desk": ["pvf_0123456789abcdef"]}')
    assert api_keys.load(file) == {"desk": [api_keys.Key("pvf_0123456789abcdef")]}
    api_keys.add(file, "desk")
    assert len(api_keys.load(file)["desk"]) == 2


def test_rotation_gives_the_old_keys_an_end_and_the_new_one_their_limits(file: Path) -> None:
    old = api_keys.add(file, "bi", parks=["roof"], groups=["north"], now=NOW)
    new, ended = api_keys.rotate(file, "bi", timedelta(hours=2), now=NOW)
    assert (new.parks, new.groups) == (("roof",), ("north",))
    assert [(key.key, key.ends_at) for key in ended] == [(old.key, NOW + timedelta(hours=2))]
    keys = api_keys.load(file)
    assert [key.key for key in keys["bi"]] == [old.key, new.key]
    assert api_keys.next_end(keys, NOW) == NOW + timedelta(hours=2)
    just_before, then = NOW + timedelta(minutes=119), NOW + timedelta(hours=2)
    assert [key.key for key in api_keys.in_force(keys, just_before)["bi"]] == [old.key, new.key]
    assert [key.key for key in api_keys.in_force(keys, then)["bi"]] == [new.key]


def test_a_second_rotation_does_not_lengthen_the_life_of_the_first_key(file: Path) -> None:
    api_keys.add(file, "bi", now=NOW)
    api_keys.rotate(file, "bi", timedelta(hours=1), now=NOW)
    _, ended = api_keys.rotate(file, "bi", timedelta(hours=5), now=NOW)
    assert [key.ends_at for key in ended] == [NOW + timedelta(hours=1), NOW + timedelta(hours=5)]


def test_keys_that_see_different_parks_are_rotated_one_by_one(file: Path) -> None:
    first = api_keys.add(file, "bi")
    second = api_keys.add(file, "bi", parks=["roof"])
    with pytest.raises(InvalidInput, match=f"{first.id}, {second.id} see different parks"):
        api_keys.rotate(file, "bi", timedelta(hours=1))
    new, ended = api_keys.rotate(file, "bi", timedelta(hours=1), key_id=second.id)
    assert (new.parks, [key.key for key in ended]) == (("roof",), [second.key])
    with pytest.raises(InvalidInput, match="no key that holds"):
        api_keys.rotate(file, "nobody", timedelta(hours=1))


def test_changes_made_at_once_are_all_kept(file: Path) -> None:
    api_keys.load(file)
    threads = [threading.Thread(target=api_keys.add, args=(file, f"client-{number}")) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(api_keys.load(file)) == 17


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        ([], "api-keys"),
        ({"Desk Top": []}, "api-keys"),
        ({"desk#1": []}, "api-keys"),
        ({"desk": "pvf_0123456789abcdef"}, "api-keys.desk"),
        ({"desk": ["short"]}, r"api-keys.desk\[0\]"),
        ({"desk": ["white space in the key"]}, r"api-keys.desk\[0\]"),
        ({"desk": [17]}, r"api-keys.desk\[0\]"),
        ({"desk": [{"key": "pvf_0123456789abcdef", "park": "roof"}]}, r"api-keys.desk\[0\]: unknown: park"),
        ({"desk": [{"key": "pvf_0123456789abcdef", "parks": "roof"}]}, r"desk\[0\]: parks and groups are lists"),
        ({"desk": [{"key": "pvf_0123456789abcdef", "ends_at": "2026-01-01"}]}, r"desk\[0\].ends_at: no ISO"),
        ({"desk": ["pvf_0123456789abcdef"], "bi": ["pvf_0123456789abcdef"]}, r"api-keys.bi\[0\]: client desk"),
    ],
)
def test_wrong_keys_are_refused_by_place_and_never_by_value(keys: object, where: str) -> None:
    with pytest.raises(InvalidInput, match=where) as caught:
        api_keys.validate(keys)
    assert "pvf_0123456789abcdef" not in str(caught.value)


def test_a_file_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "k").write_text("{")
    with pytest.raises(InvalidInput, match="is not JSON"):
        api_keys.load(tmp_path / "k")


def test_a_bad_client_name_changes_nothing(file: Path) -> None:
    before = api_keys.load(file)
    with pytest.raises(InvalidInput, match="no client name"):
        api_keys.add(file, "Bad Name")
    assert api_keys.load(file) == before


def test_a_key_does_not_show_itself_in_a_traceback() -> None:
    assert "pvf_" not in repr(api_keys.Key("pvf_0123456789abcdef"))


def test_who_sees_what_follows_from_the_keys() -> None:
    everything, some = api_keys.Key("k" * 16), api_keys.Key("l" * 16, parks=("roof",), groups=("north", "new"))
    table = gateway_access.table({"desk": [everything, some]}, {"north": {"a", "b"}})
    assert table == {"_platform": "*", "desk": "*", f"desk#{some.id}": ["a", "b", "roof"]}


@pytest.fixture
def running(tmp_path: Path) -> Path:
    """A home as the gateway's start leaves it, without Envoy."""
    gateway.part(tmp_path, 18_080, 18_081, Upstreams([("127.0.0.1", 1)]), Options()).prepare()
    return tmp_path


def test_a_running_gateway_follows_file_end_and_groups(running: Path) -> None:
    file, said, parks = gateway.keys_file(running), list[str](), {"north": {"a"}}
    key = api_keys.add(file, "bi", groups=["north"], now=NOW)
    follower = Follower(running, threading.Event(), lambda: parks, said.append)

    def sees() -> object:
        return json.loads(gateway.access_file(running).read_text()).get(key.principal("bi"))

    assert follower.step(NOW)
    assert sees() == ["a"]
    assert not follower.step(NOW), "nothing changed"
    api_keys.rotate(file, "bi", timedelta(hours=1), now=NOW)
    assert follower.step(NOW)
    assert not follower.step(NOW + timedelta(minutes=59))
    assert follower.step(NOW + timedelta(hours=1))
    assert sees() is None
    assert key.key not in (running / "gateway" / "routes.json").read_text()
    assert said == []


def test_a_registry_that_is_away_leaves_a_group_without_parks_and_is_told_once(running: Path) -> None:
    key = api_keys.add(gateway.keys_file(running), "bi", parks=["own"], groups=["north"])
    said = list[str]()

    def away() -> dict[str, set[str]]:
        raise NotReady("no lake")

    follower = Follower(running, threading.Event(), away, said.append)
    follower.step(datetime.now(UTC))
    follower.step(datetime.now(UTC))
    table = json.loads(gateway.access_file(running).read_text())
    assert table[key.principal("bi")] == ["own"]
    assert said == ["groups of parks cannot be read, those of before hold: no lake"]


def test_a_key_is_shown_once_and_listed_by_id(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, shown, told = pvf(monkeypatch, capsys, "key", "add", "bi", "--park", "roof")
    made = shown.strip()
    key_id = api_keys.Key(made).id
    assert key_id in told
    _, listed, _ = pvf(monkeypatch, capsys, "key", "list", "--json")
    rows = {row["id"]: row for row in json.loads(listed)["keys"]}
    assert (rows[key_id]["client"], rows[key_id]["parks"], rows[key_id]["holds"]) == ("bi", ["roof"], True)
    assert made not in listed + told
    assert made not in pvf(monkeypatch, capsys, "key", "list")[1]
    _, rotated, _ = pvf(monkeypatch, capsys, "key", "rotate", "bi", "--overlap-hours", "0", "--json")
    new = json.loads(rotated)
    assert [row["id"] for row in new["replaces"]] == [key_id]
    assert new["key"] != made
    assert pvf(monkeypatch, capsys, "key", "revoke", new["id"])[0] == 0
    status, _, error = pvf(monkeypatch, capsys, "key", "revoke", new["id"])
    assert (status, error.strip()) == (1, "pvf: key: no client has this key (see them: pvf key list)")


def test_the_programs_own_key_is_the_newest_that_holds_and_sees_all(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    file = gateway.keys_file(tmp_path)
    api_keys.load(file)
    new, _ = api_keys.rotate(file, "desk", timedelta(0))
    api_keys.add(file, "desk", parks=["roof"])
    assert client.key(settings) == new.key
    api_keys.revoke(file, new.id)
    with pytest.raises(InvalidInput, match="no key that sees all parks"):
        client.key(settings)


@pytest.mark.parametrize("value", ["schlüssel-mit-umlaut", "pvf_0123456789abcdef\n", "two words"])
def test_a_key_that_http_cannot_carry_is_refused_by_name_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    monkeypatch.setenv("PVF_API_KEY", value)
    with pytest.raises(InvalidInput, match="PVF_API_KEY") as caught:
        client.key(Settings(home=tmp_path))
    assert value not in str(caught.value)
