"""The local Ray cluster that searches of one process share, with a Ray that is pretended."""

from __future__ import annotations

import atexit
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from celltune.search.cluster import connection, shared_ray
from celltune.search.cluster.connection import connected
from celltune.search.cluster.shared_ray import (
    SharedRay,
    describe_connection,
    share_local_ray,
    stop_shared_ray,
)
from celltune.search.errors import ResourceError


class PretendedRay:
    """What `connection` uses of Ray: at most one connection, each with a number."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.current = 0
        self.count = 0

    def init(self, address: str, **_: Any) -> None:
        self.calls.append(f"init {address}")
        self.count += 1
        self.current = self.count

    def shutdown(self) -> None:
        self.calls.append("shutdown")
        self.current = 0

    def context(self) -> Any:
        return SimpleNamespace(gcs_address="host:1", get_job_id=lambda: str(self.current))


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> PretendedRay:
    pretended = PretendedRay()
    monkeypatch.setattr(ray, "init", pretended.init)
    monkeypatch.setattr(ray, "shutdown", pretended.shutdown)
    monkeypatch.setattr(ray, "is_initialized", lambda: pretended.current > 0)
    monkeypatch.setattr(ray, "get_runtime_context", pretended.context)
    monkeypatch.setattr(connection, "_check_reachable", lambda address: None)
    state = SharedRay()
    monkeypatch.setattr(shared_ray, "SHARED", state)
    monkeypatch.setattr(connection, "SHARED", state)
    monkeypatch.setattr(atexit, "register", lambda call: pretended.calls.append("at exit"))
    return pretended


def use(address: str | None = None) -> None:
    with connected(address):
        pass


def test_a_command_stops_its_cluster(pretended: PretendedRay) -> None:
    use()
    use()
    assert pretended.calls == ["init local", "shutdown"] * 2


def test_a_session_starts_one_cluster(pretended: PretendedRay) -> None:
    share_local_ray()
    use()
    use()
    use()
    assert pretended.calls == ["init local", "at exit"]
    stop_shared_ray()
    stop_shared_ray()
    assert pretended.calls[2:] == ["shutdown"]
    use()
    assert pretended.calls[3:] == ["init local", "at exit"]


def test_the_stage_says_which_cluster_is_used(pretended: PretendedRay) -> None:
    share_local_ray()
    assert describe_connection(None) == "Starting a local Ray cluster"
    assert describe_connection("me:pw@host:1") == "Connecting to the Ray cluster at host:1"
    use()
    assert describe_connection(None) == "Using the local Ray cluster of the previous search"
    assert describe_connection("host:1") == "Connecting to the Ray cluster at host:1"
    stop_shared_ray()
    pretended.init("users")
    expected = "Using the Ray cluster to which this process is connected"
    assert describe_connection(None) == expected


def test_a_cluster_of_the_user_is_used_and_stays(pretended: PretendedRay) -> None:
    share_local_ray()
    pretended.init("users")
    use()
    stop_shared_ray()
    assert pretended.calls == ["init users"]


def test_a_cluster_that_the_user_started_later_is_not_taken_for_ours(
    pretended: PretendedRay,
) -> None:
    share_local_ray()
    use()
    pretended.shutdown()
    pretended.init("users")
    use()
    stop_shared_ray()
    assert pretended.calls == ["init local", "at exit", "shutdown", "init users"]
    pretended.shutdown()
    use()
    assert pretended.calls[5:] == ["init local", "at exit"]


def test_another_address_ends_the_shared_cluster(pretended: PretendedRay) -> None:
    share_local_ray()
    use()
    use("host:2")
    assert pretended.calls == ["init local", "at exit", "shutdown", "init host:2", "shutdown"]
    use()
    assert pretended.calls[5:] == ["init local", "at exit"]


def test_changed_environment_variables_start_the_cluster_again(
    pretended: PretendedRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    share_local_ray()
    use()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "later")
    use()
    use()
    assert pretended.calls == ["init local", "at exit", "shutdown", "init local", "at exit"]


@pytest.mark.parametrize(
    ("error", "remains"),
    [(ResourceError("too small"), True), (KeyboardInterrupt(), False), (OSError(), False)],
)
def test_a_cluster_remains_after_an_error_only_if_nothing_still_runs_there(
    error: BaseException, remains: bool, pretended: PretendedRay
) -> None:
    share_local_ray()
    with pytest.raises(type(error)), connected():
        raise error
    assert ("shutdown" not in pretended.calls) == remains


def test_a_cluster_in_use_cannot_be_stopped(pretended: PretendedRay) -> None:
    share_local_ray()
    use()
    rejected: list[str] = []

    def stop() -> None:
        try:
            stop_shared_ray()
        except ResourceError as error:
            rejected.append(str(error))

    with connected():
        thread = threading.Thread(target=stop)
        thread.start()
        thread.join()
    assert rejected[0].startswith("Another search, evaluation or data command is using Ray")
    assert "shutdown" not in pretended.calls
