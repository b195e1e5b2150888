from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import ray

from celltune.data_prep.cache import ray_store as store
from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.errors import DataError, DataLostError
from celltune.data_prep.preparation.pipeline import prepare


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    config = DataConfig(source="synthetic", reviews=2_000, seed=11)
    return prepare(config, cache_dir=tmp_path_factory.mktemp("cache"))


def test_without_a_cluster_nothing_can_be_shared(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    for call in (lambda: store.publish(data), lambda: store.open_handle(store.DataHandle("x"))):
        with pytest.raises(DataError, match="no Ray cluster is joined"):
            call()


@pytest.mark.usefixtures("local_ray")
def test_published_data_open_as_views_into_the_store(data: PreparedData) -> None:
    opened = store.open_handle(store.publish(data))
    assert (opened.words, opened.classes, opened.info) == (data.words, data.classes, data.info)
    for part, wanted in ((opened.train, data.train), (opened.valid, data.valid)):
        for name in ("ids", "offsets", "labels"):
            array = getattr(part, name)
            assert (array == getattr(wanted, name)).all()
            assert not array.flags.owndata
            assert not array.flags.writeable
    assert store.open_handle(store.DataHandle(data.fingerprint)) is opened


@pytest.mark.usefixtures("local_ray")
def test_publishing_twice_keeps_one_copy(data: PreparedData) -> None:
    assert store.publish(data) == store.publish(data)
    mine = [found for found in store.stat() if found.fingerprint == data.fingerprint]
    assert mine == [store.DataStat(data.fingerprint, 2_000, data.nbytes)]


@pytest.mark.usefixtures("local_ray")
def test_data_outlive_the_process_that_published_them(tmp_path: Path) -> None:
    @ray.remote(num_cpus=1)
    class Publisher:
        def publish(self, cache_dir: Path) -> store.DataHandle:
            config = DataConfig(source="synthetic", reviews=200, seed=12)
            return store.publish(prepare(config, cache_dir=cache_dir))

    publisher = Publisher.remote()
    handle = ray.get(publisher.publish.remote(tmp_path))
    ray.kill(publisher)
    with pytest.raises(ray.exceptions.RayActorError, match="died"):
        ray.get(publisher.publish.remote(tmp_path))
    assert len(store.open_handle(handle).train) == 160


@pytest.mark.usefixtures("local_ray")
def test_another_process_opens_the_same(data: PreparedData) -> None:
    @ray.remote(num_cpus=1)
    def tokens(handle: store.DataHandle) -> tuple[int, bool]:
        opened = store.open_handle(handle)
        return opened.train.tokens, opened.train.ids.flags.owndata

    assert ray.get(tokens.remote(store.publish(data))) == (data.train.tokens, False)


@pytest.mark.usefixtures("local_ray")
def test_data_that_nobody_published_are_refused() -> None:
    with pytest.raises(DataError, match="prepared data nowhere aren't in this cluster; publish"):
        store.open_handle(store.DataHandle("nowhere"))


def test_a_handle_is_small() -> None:
    handle = store.DataHandle("0" * 32)
    assert pickle.loads(pickle.dumps(handle)) == handle  # noqa: S301 - our own bytes
    assert len(pickle.dumps(handle)) < 200


def reviews(number: int, cache_dir: Path) -> PreparedData:
    return prepare(DataConfig(source="synthetic", reviews=60, seed=number), cache_dir=cache_dir)


@pytest.mark.usefixtures("local_ray")
def test_the_ceiling_drops_what_was_used_least_and_nobody_holds(tmp_path: Path) -> None:
    store.clear()
    first, second, third = (reviews(number, tmp_path) for number in (21, 22, 23))
    room = first.nbytes + max(second.nbytes, third.nbytes)
    with store.published(first, ceiling=room):
        store.publish(second, ceiling=room)
        store.publish(third, ceiling=room)
        kept = {found.fingerprint for found in store.stat()}
        assert first.fingerprint in kept
        assert second.fingerprint not in kept
        assert third.fingerprint in kept
        with (
            store.published(third, ceiling=room),
            pytest.raises(DataError, match=r"bytes in use under the ceiling .*data_memory_gb"),
        ):
            store.publish(second, ceiling=room)
    store.publish(second, ceiling=room)
    assert first.fingerprint not in {found.fingerprint for found in store.stat()}


@pytest.mark.usefixtures("local_ray")
def test_what_is_named_and_unused_is_cleared(tmp_path: Path) -> None:
    store.clear()
    first, second = (reviews(number, tmp_path) for number in (31, 32))
    store.publish(second)
    with store.published(first):
        users = {found.fingerprint: found.users for found in store.stat()}
        assert users == {first.fingerprint: 1, second.fingerprint: 0}
        assert store.clear([first.fingerprint[:12]]) == []
        with pytest.raises(DataError, match=r"'xyz' names none of the 2 sets in the cluster"):
            store.clear(["xyz"])
    assert store.clear([first.fingerprint[:12]]) == [first.fingerprint]
    assert [found.fingerprint for found in store.stat()] == [second.fingerprint]


@pytest.mark.usefixtures("local_ray")
def test_a_hold_ends_with_its_job(data: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ray._private.state, "jobs", lambda: [{"JobID": "01", "IsDead": True}, {"JobID": "02"}]
    )
    monkeypatch.setitem(ray._private.state.jobs()[1], "IsDead", False)
    assert not store._job_lives("01")
    assert store._job_lives("03")


@pytest.mark.usefixtures("local_ray")
def test_ray_lists_this_job_as_alive() -> None:
    mine = ray.get_runtime_context().get_job_id()
    assert [job["IsDead"] for job in ray._private.state.jobs() if job["JobID"] == mine] == [False]
    assert store._job_lives(mine)


@pytest.mark.usefixtures("local_ray")
def test_data_that_were_lost_with_their_node_are_published_again(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = store.publish(data)
    ray.kill(ray.get_actor(store.ACTOR_NAME, namespace=store.NAMESPACE))
    monkeypatch.setattr(store, "_last", store._Last())
    with pytest.raises(DataLostError, match="aren't in this cluster; publish them first"):
        store.open_handle(handle)
    with store.published(data):
        assert store.open_handle(handle).fingerprint == data.fingerprint
