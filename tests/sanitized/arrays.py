"""Random shapes and values for the C++ code that computes with arrays."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from celltune.data_prep.dataset.subsets import concatenate
from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.data_prep.vectors import skip_gram
from celltune.models.config import ModelConfig
from celltune.models.network.native_network import (
    _CELLS,
    _READOUTS,
    NativeNetwork,
    is_native,
)
from celltune.models.network.weights import expected_shapes

# Around the widths of vectors and the heights of register tiles.
SIZES = (1, 2, 3, 15, 16, 17, 31, 32, 33, 48, 65)
# Denormal numbers, values at which functions change their formula, and large weights.
SPECIAL = (0.0, -0.0, 1e-45, 1e-30, 0.25, 80.0, -110.0, 1e4, -1e6)


def random_weights(rng: Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return weights for which a rounding error does not grow from step to step."""
    scale = 0.7 / np.sqrt(shape[-1]) if len(shape) > 1 else 0.5
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def check_vectors(rng: Generator) -> None:
    """Compare the training of word vectors with numpy, and run long and empty documents."""
    vocabulary = int(rng.integers(1, 50))
    lengths = rng.choice([0, 1, 2, 5, 11, 30, 200], rng.integers(1, 8))
    lengths[rng.integers(len(lengths))] += 1
    words = rng.integers(0, vocabulary, lengths.sum()).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    counts = np.bincount(words, minlength=vocabulary)
    used, words = np.unique(words, return_inverse=True)
    text = skip_gram.NumberedText(words.astype(np.int32), offsets, counts[used].astype(np.int64))
    size, seed = int(rng.choice(SIZES)), int(rng.integers(100))
    native = skip_gram.train_vectors(text, size=size, epochs=2, seed=seed)
    implementation = skip_gram._implementation
    try:
        skip_gram._implementation = lambda: skip_gram._train_in_numpy
        plain = skip_gram.train_vectors(text, size=size, epochs=2, seed=seed)
    finally:
        skip_gram._implementation = implementation
    np.testing.assert_allclose(native, plain, rtol=1e-3, atol=1e-5)


def random_network(rng: Generator) -> tuple[ModelConfig, dict[str, NDArray[np.float32]], int, int]:
    """Return the config of a model, its weights, and its numbers of words and classes."""
    while True:
        config = ModelConfig(
            cell=str(rng.choice(list(_CELLS))),
            nonlinearity=str(rng.choice(["tanh", "relu"])),
            readout=str(rng.choice(list(_READOUTS))),
            hidden_size=int(rng.choice(SIZES)),
            embedding_size=int(rng.choice(SIZES)),
            num_layers=int(rng.integers(1, 4)),
            bidirectional=bool(rng.integers(2)),
            output_relu=bool(rng.integers(2)),
        )
        if is_native(config):
            break
    words, classes = int(rng.integers(3, 60)), int(rng.choice([2, 3, 5]))
    shapes = expected_shapes(config, words, classes, {})
    return config, {name: random_weights(rng, shapes[name]) for name in shapes}, words, classes


def random_split(rng: Generator, words: int, documents: int) -> TensorizedSplit:
    """Return documents of 1 to 40 tokens."""
    lengths = rng.choice([1, 2, 3, 8, 40], documents)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = rng.integers(0, words, offsets[-1]).astype(np.int32)
    return TensorizedSplit(ids, offsets, np.zeros(documents, np.int64), None)


def check_network(rng: Generator) -> None:
    """Predict together and apart: other documents change nothing. Special values are processed."""
    config, weights, words, classes = random_network(rng)
    network = NativeNetwork(config, words, classes, weights)
    splits = [random_split(rng, words, int(count)) for count in rng.choice([1, 2, 47, 49], 2)]
    together = network.log_probabilities(concatenate(*splits))
    assert together.shape == (sum(map(len, splits)), classes)
    apart = np.concatenate([network.log_probabilities(split) for split in splits])
    np.testing.assert_allclose(together, apart, rtol=1e-3, atol=1e-3)
    for values in weights.values():
        values[rng.random(values.shape) < 0.05] = rng.choice(SPECIAL)
    special = NativeNetwork(config, words, classes, weights)
    with np.errstate(all="ignore"):
        assert special.log_probabilities(splits[0]).shape == (len(splits[0]), classes)


def check_classifier(rng: Generator) -> None:
    """Compare predictions with PyTorch's classifier."""
    import torch

    from celltune.models.network.classifier import TextClassifier
    from celltune.models.network.predict import log_probabilities

    config, weights, words, classes = random_network(rng)
    classifier = TextClassifier(config, words, classes).eval()
    classifier.load_state_dict({name: torch.from_numpy(each) for name, each in weights.items()})
    split = random_split(rng, words, int(rng.choice([1, 2, 49])))
    expected = log_probabilities(classifier, split, batch_size=16)
    found = NativeNetwork(config, words, classes, weights).log_probabilities(split)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def check_loops(rng: Generator) -> None:
    """Compare the states and gradients of a layer with those of PyTorch's operations."""
    import torch

    from celltune.models.extensions import CELLS
    from celltune.models.layers.stack import RecurrentStack
    from celltune.models.native import library as native

    steps, batch = int(rng.choice([1, 2, 9])), int(rng.choice(SIZES))
    features, hidden = (int(size) for size in rng.choice(SIZES, 2))
    torch.set_num_threads(int(rng.integers(1, 4)))
    stack = RecurrentStack(
        CELLS.load(str(rng.choice(list(_CELLS))))(),
        features,
        hidden,
        generator=torch.Generator().manual_seed(int(rng.integers(100))),
        bidirectional=bool(rng.integers(2)),
    ).to(torch.float64 if rng.integers(2) else torch.float32)
    weights = list(stack.parameters())
    drawn = torch.from_numpy(rng.standard_normal((steps, features, batch))).to(weights[0].dtype)
    inputs = drawn.requires_grad_()
    lengths = torch.from_numpy(rng.integers(1, steps + 1, batch))
    mask = (torch.arange(steps)[:, None] < lengths)[:, None]

    def gradients() -> tuple[torch.Tensor, ...]:
        states = stack(inputs, mask).masked_fill(~mask, 0)
        return states, *torch.autograd.grad(states.pow(2).mean(), [inputs, *weights])

    with native.disabled():
        expected = gradients()
    for actual, wanted in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-3, atol=1e-5)


def check_rows(rng: Generator) -> None:
    """Compare delayed optimizer steps of some rows with dense ones."""
    import torch

    from celltune.models.training.lazy_rows import LazyRowUpdates

    words, size = int(rng.integers(2, 40)), int(rng.choice([*SIZES, 64, 130]))
    start = torch.from_numpy(rng.standard_normal((words, size)).astype(np.float32))
    tables = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    torch.set_num_threads(int(rng.integers(1, 4)))
    if rng.integers(2):
        made = [torch.optim.Adam([table], lr=0.01) for table in tables]
    else:
        momentum = float(rng.choice([0.0, 0.9]))
        made = [torch.optim.SGD([table], lr=0.01, momentum=momentum) for table in tables]
    lazy = LazyRowUpdates(tables[0], made[0])
    for _ in range(int(rng.integers(1, 30))):
        ids = torch.from_numpy(rng.integers(0, words, (3, 2)))
        rows, indices, _ = lazy.gather(ids)
        rows[indices].pow(2).sum().backward()
        lazy.step()
        made[1].zero_grad()
        tables[1][ids].pow(2).sum().backward()
        made[1].step()
    lazy.flush()
    torch.testing.assert_close(tables[0], tables[1], rtol=1e-3, atol=1e-5)
