"""Preparing, opening, sharing and batching IMDB, beside torchtext 0.6.0 and torch's DataLoader.

Usage: python benchmarks/data_prep.py [--quick] [--data FOLDER] [--repeat 3]

Both sides get the same reviews and the basic_english tokenizer, one after the other in one run;
figures are ratios of medians:
  prepare_speedup    raw archive to ready cache, training and test part (50,000 reviews), against
                     torchtext's own way from the unpacked folder: datasets.IMDB, Field,
                     build_vocab, one pass of BucketIterator over both parts (at least 5). What
                     a machine compiles once is compiled before; `details` say how long it took
  second_open_ms     opening in another process of the cluster what is published (at most 50)
  open_speedup       preparing by opening (at least 100)
  extra_trial_share  memory that one more trial adds, by the set's size: the growth of the summed
                     PSS of Ray's store, the data's owner and all trials, after the trial read
                     every array (at most 0.05)
  batches_speedup    one pass over the training batches, against a DataLoader whose collate makes a
                     tensor of each review's ids and calls pad_sequence (at least 10); `details`
                     has the same against tensors that were made before
  padding_share      padding in the batches of 64 (at most 0.05)
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import ray
import torch
from _measure import REPOSITORY, finish
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

# This file is called as the package is. `_measure` took its folder out of this process's path; Ray
# would put it into the workers' by the script's name.
sys.argv[0] = str(REPOSITORY / "benchmark")

from celltune.data_prep.cache import ray_store as store  # noqa: E402
from celltune.data_prep.config import DataConfig  # noqa: E402
from celltune.data_prep.dataset.batching import Batch, cut_batch, training_plan  # noqa: E402
from celltune.data_prep.dataset.tensorized import PreparedData  # noqa: E402
from celltune.data_prep.preparation.pipeline import prepare, prepare_test  # noqa: E402
from celltune.data_prep.text import native_tokens  # noqa: E402

BATCH = 64
WHOLE_REVIEWS = 10_000


def seconds(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def torchtext_way(root: Path) -> None:
    """What torchtext 0.6.0's own pages show."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchtext import data, datasets

    text = data.Field(tokenize="basic_english", lower=True, include_lengths=True)
    label = data.LabelField(dtype=torch.float)
    train, test = datasets.IMDB.splits(text, label, root=str(root))
    text.build_vocab(train, max_size=25_000)
    label.build_vocab(train)
    for part in data.BucketIterator.splits(
        (train, test), batch_size=BATCH, sort_within_batch=True, device="cpu"
    ):
        for _ in part:
            pass


def our_way(config: DataConfig, scratch: Path) -> None:
    with tempfile.TemporaryDirectory(dir=scratch) as cache:
        prepare_test(config, cache_dir=Path(cache))


class Trial:
    """A process that opens what was published and reads all of it."""

    def open(self, handle: store.DataHandle) -> float:
        begun = time.perf_counter()
        data = store.open_handle(handle)
        took = time.perf_counter() - begun
        for part in (data.train, data.valid):
            for array in (part.ids, part.offsets, part.labels):
                int(array.max())
        return took

    def pid(self) -> int:
        return psutil.Process().pid


def sharing(data: PreparedData, trials: int, scratch: Path) -> tuple[list[float], list[float]]:
    """Seconds that each trial took to open, and the share of the set that each one added."""
    small = prepare(DataConfig(source="synthetic", reviews=100), cache_dir=scratch)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        for published in (data, small):
            store.acquire(published)
        handle, warm = store.DataHandle(data.fingerprint), store.DataHandle(small.fingerprint)
        readers = [ray.remote(num_cpus=0)(Trial).remote() for _ in range(trials + 1)]
        pids = [ray.get(reader.pid.remote()) for reader in readers]
        for reader in readers:
            ray.get(reader.open.remote(warm))
        opened, memory = [], []
        for reader in readers:
            opened.append(ray.get(reader.open.remote(handle)))
            memory.append(pss(pids))
        added = [b - a for a, b in pairwise(memory)]
        return opened[1:], [max(0, growth) / data.nbytes for growth in added]
    finally:
        ray.shutdown()


def pss(pids: Sequence[int]) -> int:
    """Bytes that these processes, Ray's store and the data's owner take together."""
    whole = [psutil.Process(pid) for pid in pids]
    for child in psutil.Process().children(recursive=True):
        line = " ".join(child.cmdline())
        if child.pid not in pids and ("raylet" in child.name() or "DataCache" in line):
            whole.append(child)
    return sum(process.memory_full_info().pss for process in whole)


def ids_of(data: PreparedData) -> list[tuple[list[int], int]]:
    bounds = zip(data.train.offsets[:-1], data.train.offsets[1:], strict=True)
    reviews = [data.train.ids[a:b].tolist() for a, b in bounds]
    return list(zip(reviews, data.train.labels.tolist(), strict=True))


def collate(batch: list[tuple[Any, int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    texts = [torch.as_tensor(ids) for ids, _ in batch]
    lengths = torch.tensor([len(text) for text in texts])
    return pad_sequence(texts, padding_value=1), lengths, torch.tensor([y for _, y in batch])


def pass_over(loader: Any) -> None:
    for _ in loader:
        pass


def batches(data: PreparedData, epoch: int) -> Iterator[Batch]:
    plan = training_plan(data.train, BATCH, seed=1, epoch=epoch)
    return (cut_batch(data.train, indices) for indices in plan)


def batching(data: PreparedData, repeat: int) -> dict[str, float]:
    lists = ids_of(data)
    tensors = [(torch.tensor(ids), label) for ids, label in lists]
    ours, theirs, made_before = [], [], []
    for epoch in range(repeat):
        ours.append(seconds(lambda: pass_over(batches(data, epoch))))  # noqa: B023
        for found, items in ((theirs, lists), (made_before, tensors)):
            loader = DataLoader(items, BATCH, shuffle=True, collate_fn=collate)
            found.append(seconds(lambda: pass_over(loader)))  # noqa: B023
    read = sum(batch.ids.size for batch in batches(data, 0))
    return {
        "ours_s": median(ours),
        "dataloader_s": median(theirs),
        "dataloader_of_tensors_s": median(made_before),
        "padding_share": 1 - data.train.tokens / read,
    }


def archive(folder: Path, scratch: Path, per_class: int | None) -> Path:
    path = scratch / "aclImdb_v1.tar.gz"
    few = [] if per_class is None else ["--per-class", str(per_class)]
    command = [sys.executable, str(folder / "make_aclimdb.py"), str(path), *few]
    subprocess.run(command, check=True, capture_output=True)
    with tarfile.open(path) as tar:
        tar.extractall(scratch / "root" / "imdb", filter="data")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the reviews, once")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    if not (options.data / "make_aclimdb.py").is_file():
        sys.exit(f"{options.data} holds no make_aclimdb.py; name its folder: --data")
    repeat = 1 if options.quick else options.repeat
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        path = archive(options.data, scratch, 2_500 if options.quick else None)
        config = DataConfig(source="imdb", path=path, max_tokens=WHOLE_REVIEWS)
        ours, theirs = [], []
        compiling = seconds(native_tokens.available)
        seconds(lambda: our_way(DataConfig(source="synthetic", test_size=0.2), scratch))
        for _ in range(repeat):
            ours.append(seconds(lambda: our_way(config, scratch)))
            theirs.append(seconds(lambda: torchtext_way(scratch / "root")))
            print(f"prepared in {ours[-1]:.2f} s, torchtext {theirs[-1]:.2f} s", flush=True)
        data = prepare(config, cache_dir=scratch / "cache")
        opened, added = sharing(data, 3, scratch)
        batched = batching(data, 3 if options.quick else 7)
    figures = {
        "prepare_speedup": median(theirs) / median(ours),
        "second_open_ms": 1_000 * median(opened),
        "open_speedup": median(ours) / median(opened),
        "extra_trial_share": median(added),
        "batches_speedup": batched["dataloader_s"] / batched["ours_s"],
        "padding_share": batched["padding_share"],
    }
    details = {
        "reviews": 20_000 // 2 if options.quick else 50_000,
        "prepare_s": ours,
        "torchtext_s": theirs,
        "compile_s": compiling,
        "open_s": opened,
        "added_shares": added,
        "set_bytes": data.nbytes,
        **batched,
    }
    print(details)
    finish("data_prep", figures, details, keep=not options.quick)


if __name__ == "__main__":
    main()
