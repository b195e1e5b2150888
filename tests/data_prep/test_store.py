from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import ray

from data_prep import DataConfig, DataError, PreparedData, prepare, store


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
