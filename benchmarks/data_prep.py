"""Preparing, opening, sharing and batching IMDB, compared with torchtext 0.6.0 and DataLoader.

Usage: python benchmarks/data_prep.py [--quick] [--data FOLDER] [--repeat 3]

Both sides process the same reviews with the basic_english tokenizer, alternately in one run. The
figures are medians or ratios of medians (in parentheses: the goal):
  prepare_speedup    from the archive to the finished cache, training and test split (50,000
                     reviews), compared with torchtext from the unpacked folder: datasets.IMDB,
                     Field, build_vocab, one pass of BucketIterator over both splits (at least 5).
                     The native tokenizer is compiled before; `details` contain the time for this
  second_open_ms     opening published data in another process of the cluster (at most 50)
  open_speedup       preparing to opening (at least 100)
  extra_trial_share  additional memory of one more trial in relation to the size of the data: growth
                     of the total PSS of Ray's store, the data's owner and all trials after the
                     trial read every array (at most 0.05)
  batches_speedup    one pass over the training batches, compared with a DataLoader whose collate
                     function converts the ids of each review to a tensor and calls pad_sequence
                     (at least 10); `details` contain the comparison with existing tensors
  padding_share      share of padding in batches of 64 (at most 0.05)
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

# Ray adds the folder of the driver's script to the import path of its workers, where this folder's
# modules would shadow others; therefore pretend that the script is elsewhere.
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
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def prepare_by_torchtext(root: Path) -> None:
    """Prepare IMDB as in the documentation of torchtext 0.6.0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchtext import data, datasets

    text = data.Field(tokenize="basic_english", lower=True, include_lengths=True)
    label = data.LabelField(dtype=torch.float)
    train, test = datasets.IMDB.splits(text, label, root=str(root))
    text.build_vocab(train, max_size=25_000)
    label.build_vocab(train)
    for batches in data.BucketIterator.splits(
        (train, test), batch_size=BATCH, sort_within_batch=True, device="cpu"
    ):
        for _ in batches:
            pass


def prepare_by_celltune(config: DataConfig, scratch: Path) -> None:
    with tempfile.TemporaryDirectory(dir=scratch) as cache:
        prepare_test(config, cache_dir=Path(cache))


class Trial:
    """A process that opens published data and reads all of them."""

    def open(self, handle: store.DataHandle) -> float:
        started = time.perf_counter()
        data = store.open_handle(handle)
        duration = time.perf_counter() - started
        for split in (data.train, data.valid):
            for array in (split.ids, split.offsets, split.labels):
                int(array.max())
        return duration

    def pid(self) -> int:
        return psutil.Process().pid


def sharing(data: PreparedData, trials: int, scratch: Path) -> tuple[list[float], list[float]]:
    """Return the seconds to open the data and the share of their size added, for each trial."""
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
    """Return the total PSS of these processes, Ray's store and the data's owner in bytes."""
    processes = [psutil.Process(pid) for pid in pids]
    for child in psutil.Process().children(recursive=True):
        line = " ".join(child.cmdline())
        if child.pid not in pids and ("raylet" in child.name() or "DataCache" in line):
            processes.append(child)
    return sum(process.memory_full_info().pss for process in processes)


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
    ours, from_lists, from_tensors = [], [], []
    for epoch in range(repeat):
        ours.append(seconds(lambda: pass_over(batches(data, epoch))))  # noqa: B023
        for times, items in ((from_lists, lists), (from_tensors, tensors)):
            loader = DataLoader(items, BATCH, shuffle=True, collate_fn=collate)
            times.append(seconds(lambda: pass_over(loader)))  # noqa: B023
    padded_size = sum(batch.ids.size for batch in batches(data, 0))
    return {
        "ours_s": median(ours),
        "dataloader_s": median(from_lists),
        "dataloader_of_tensors_s": median(from_tensors),
        "padding_share": 1 - data.train.tokens / padded_size,
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
    parser.add_argument("--quick", action="store_true", help="a fifth of the reviews, one run")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    if not (options.data / "make_aclimdb.py").is_file():
        sys.exit(f"{options.data} does not contain make_aclimdb.py; set --data to its folder.")
    repeat = 1 if options.quick else options.repeat
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        path = archive(options.data, scratch, 2_500 if options.quick else None)
        config = DataConfig(source="imdb", path=path, max_tokens=WHOLE_REVIEWS)
        ours, theirs = [], []
        compiling = seconds(native_tokens.available)
        seconds(lambda: prepare_by_celltune(DataConfig(source="synthetic", test_size=0.2), scratch))
        for _ in range(repeat):
            ours.append(seconds(lambda: prepare_by_celltune(config, scratch)))
            theirs.append(seconds(lambda: prepare_by_torchtext(scratch / "root")))
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
