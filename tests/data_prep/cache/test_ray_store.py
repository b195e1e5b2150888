from __future__ import annotations

import pickle
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray

from celltune.data_prep.cache import ray_store as store
from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.errors import DataError, DataLostError
from celltune.data_prep.preparation.pipeline import prepare
from celltune.data_prep.wide.fit import LabelledTexts, WideFitter
from celltune.data_prep.wide_config import WideConfig


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    config = DataConfig(source="synthetic", reviews=2_000, seed=11)
    return prepare(config, cache_dir=tmp_path_factory.mktemp("cache"))


def publish(data: PreparedData, limit: int | None = None) -> store.DataHandle:
    """Publish data that no search uses."""
    with store.acquired(data, limit=limit) as handle:
        return handle


def published() -> set[str]:
    return {dataset.fingerprint for dataset in store.published_datasets()}


def test_sharing_data_requires_a_connection(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    for call in (
        lambda: store.acquire(data),
        lambda: store.open_handle(store.DataHandle("x")),
        store.published_datasets,
        store.clear,
    ):
        with pytest.raises(DataError, match="Ray is not connected to a cluster"):
            call()


@pytest.mark.usefixtures("local_ray")
def test_published_data_is_opened_as_views_into_the_store(data: PreparedData) -> None:
    opened = store.open_handle(publish(data))
    assert (opened.words, opened.classes, opened.info) == (data.words, data.classes, data.info)
    for split, original in ((opened.train, data.train), (opened.valid, data.valid)):
        for name in ("ids", "offsets", "labels"):
            array = getattr(split, name)
            assert (array == getattr(original, name)).all()
            assert not array.flags.owndata
            assert not array.flags.writeable
    assert store.open_handle(store.DataHandle(data.fingerprint)) is opened


@pytest.mark.usefixtures("local_ray")
def test_outputs_of_the_wide_part_are_published_without_its_model(data: PreparedData) -> None:
    texts = LabelledTexts(["good film", "bad film"], np.array([1, 0]), [None, None])
    model = WideFitter(WideConfig(), 2, 1).refit(texts, 1)
    train = replace(data.train, wide=np.ones((len(data.train), 1), np.float32))
    given = replace(data, fingerprint="with-wide-part", train=train, wide=model)
    opened = store.open_handle(publish(given))
    assert opened.wide is None
    assert opened.train.wide is not None
    assert opened.train.wide.sum() == len(train)
    assert opened.nbytes == data.nbytes + 4 * len(train)


@pytest.mark.usefixtures("local_ray")
def test_publishing_twice_stores_one_copy(data: PreparedData) -> None:
    assert publish(data) == publish(data)
    datasets = [d for d in store.published_datasets() if d.fingerprint == data.fingerprint]
    assert datasets == [store.PublishedDataset(data.fingerprint, 2_000, data.nbytes)]


@pytest.mark.usefixtures("local_ray")
def test_data_outlives_the_process_that_published_it(tmp_path: Path) -> None:
    @ray.remote(num_cpus=1)
    class Publisher:
        def publish(self, cache_dir: Path) -> store.DataHandle:
            config = DataConfig(source="synthetic", reviews=200, seed=12)
            data = prepare(config, cache_dir=cache_dir)
            store.acquire(data)
            return store.DataHandle(data.fingerprint)

        def block(self) -> None:
            threading.Event().wait()

    publisher = Publisher.remote()
    handle = ray.get(publisher.publish.remote(tmp_path))
    ray.kill(publisher)
    with pytest.raises(ray.exceptions.RayActorError, match="died"):
        # Not `publish`: it could acquire the data again before the process dies.
        ray.get(publisher.block.remote())
    assert len(store.open_handle(handle).train) == 160
    store.release(handle.fingerprint)


@pytest.mark.usefixtures("local_ray")
def test_another_process_opens_the_same_data_without_copying(data: PreparedData) -> None:
    @ray.remote(num_cpus=1)
    def tokens(handle: store.DataHandle) -> tuple[int, bool]:
        opened = store.open_handle(handle)
        return opened.train.tokens, opened.train.ids.flags.owndata

    assert ray.get(tokens.remote(publish(data))) == (data.train.tokens, False)


@pytest.mark.usefixtures("local_ray")
def test_data_of_this_process_is_opened_by_others_without_the_actor(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    @ray.remote(num_cpus=1)
    def tokens(handle: store.DataHandle) -> tuple[int, bool]:
        opened = store.open_handle(handle)
        return opened.train.tokens, opened.train.ids.flags.owndata

    def no_actor() -> None:
        raise AssertionError

    own = replace(data, fingerprint="own")
    monkeypatch.setattr(store, "_find_actor", no_actor)
    monkeypatch.setattr(store, "_get_or_create_actor", no_actor)
    with store.owned(own, limit=data.nbytes) as handle:
        assert ray.get(tokens.remote(handle)) == (data.train.tokens, False)
        assert store.open_handle(handle).words == data.words
    with (
        pytest.raises(DataError, match=r"data_memory_gb"),
        store.owned(own, limit=data.nbytes - 1),
    ):
        pass


@pytest.mark.usefixtures("local_ray")
def test_opening_unpublished_data_is_an_error() -> None:
    with pytest.raises(DataLostError, match="data unpublished is not in the cluster"):
        store.open_handle(store.DataHandle("unpublished"))


def test_handle_is_small() -> None:
    handle = store.DataHandle("0" * 32)
    assert pickle.loads(pickle.dumps(handle)) == handle  # noqa: S301 - our own bytes
    assert len(pickle.dumps(handle)) < 200


def documents(seed: int, cache_dir: Path) -> PreparedData:
    return prepare(DataConfig(source="synthetic", reviews=60, seed=seed), cache_dir=cache_dir)


@pytest.mark.usefixtures("local_ray")
def test_limit_evicts_the_least_recently_used_data_but_not_data_in_use(tmp_path: Path) -> None:
    store.clear()
    first, second, third = (documents(seed, tmp_path) for seed in (21, 22, 23))
    limit = first.nbytes + max(second.nbytes, third.nbytes)
    with store.acquired(first, limit=limit):
        publish(second, limit)
        publish(third, limit)
        assert published() == {first.fingerprint, third.fingerprint}
        with (
            store.acquired(third, limit=limit),
            pytest.raises(DataError, match=r"limit .*data_memory_gb.* searches use "),
        ):
            publish(second, limit)
    publish(second, limit)
    assert first.fingerprint not in published()


@pytest.mark.usefixtures("local_ray")
def test_clear_drops_the_given_data_unless_it_is_in_use(tmp_path: Path) -> None:
    store.clear()
    first, second = (documents(seed, tmp_path) for seed in (31, 32))
    publish(second)
    with store.acquired(first):
        users = {dataset.fingerprint: dataset.users for dataset in store.published_datasets()}
        assert users == {first.fingerprint: 1, second.fingerprint: 0}
        assert store.clear([first.fingerprint[:12]]) == []
        with pytest.raises(
            DataError, match="'xyz', which is not the beginning of any fingerprint in the cluster"
        ):
            store.clear(["xyz"])
    assert store.clear([first.fingerprint[:12]]) == [first.fingerprint]
    assert published() == {second.fingerprint}


@pytest.mark.usefixtures("local_ray")
def test_lost_data_is_published_again(data: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = publish(data)
    ray.kill(ray.get_actor(store.ACTOR_NAME, namespace=store.NAMESPACE))
    monkeypatch.setattr(store, "_last", store._Last())
    with pytest.raises(DataLostError, match=r"is not in the cluster\. Publish it again"):
        store.open_handle(handle)
    with store.acquired(data):
        assert store.open_handle(handle).fingerprint == data.fingerprint


class _Unavailable:
    """An actor that cannot be reached."""

    def __init__(self) -> None:
        self.acquire = self

    def remote(self, *arguments: object) -> None:
        raise ray.exceptions.ActorUnavailableError("no connection", bytes(16))


def test_an_actor_that_is_unavailable_for_a_moment_is_asked_again(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, asked = store._get_or_create_actor, []

    def first_unavailable() -> object:
        asked.append(1)
        return _Unavailable() if len(asked) == 1 else find()

    monkeypatch.setattr(store, "_get_or_create_actor", first_unavailable)
    monkeypatch.setattr(store, "RETRY_SECONDS", 0.0)
    store.acquire(data)
    assert len(asked) == 2
    store.release(data.fingerprint)


def test_an_actor_that_stays_unavailable_is_an_error(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_get_or_create_actor", _Unavailable)
    monkeypatch.setattr(store, "ACTOR_SECONDS", -1.0)
    with pytest.raises(DataError, match=r"was unavailable for -1 s \(ActorUnavailableError\)"):
        store.acquire(data)
