"""The memory estimate against the tensors of trainings on the CPU, where a meter sees them all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from celltune.data_prep.dataset.batching import training_plan
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.extensions import CELLS
from celltune.models.layers import stack
from celltune.models.layers.cuda_graphs import GraphedLoop, run_graphed_layer
from celltune.models.layers.persistent import selection
from celltune.models.native import library
from celltune.models.packed.batches import PackedPlans
from celltune.models.training.device_split import DeviceSplit
from celltune.models.training.memory import CONTEXT_BYTES, MemoryEstimator
from celltune.models.training.trainer import Trainer
from tests.models.random_data import make_data, make_split

VOCABULARY, LONGEST = 500, 48
SHAPES = (
    {"hidden_size": 48, "num_layers": 1, "readout": "final"},
    {"hidden_size": 24, "num_layers": 3, "bidirectional": True, "dropout": 0.3, "readout": "max"},
)


class Meter(TorchDispatchMode):
    """Measures the memory of the tensors that operations return, as long as they exist."""

    def __init__(self) -> None:
        super().__init__()
        self._storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    @property
    def bytes(self) -> int:
        return sum(size for storage, size in self._storages.values() if not storage.expired())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self._storages[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._storages = {k: v for k, v in self._storages.items() if not v[0].expired()}
        self.peak = max(self.peak, self.bytes)
        return result


@pytest.fixture
def _loops_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the implementation of the GPU's CUDA graphs, without graphs."""
    monkeypatch.setattr(library, "supports", lambda *_, **__: False)
    monkeypatch.setattr(stack, "onednn_is_faster", lambda *_: False)


def make_documents(*, wide: bool = False, **options: Any) -> PreparedData:
    sizes: dict[str, Any] = {"vocabulary": VOCABULARY, "longest": LONGEST, "wide": wide}
    train, valid = make_split(32, 1, **sizes), make_split(8, 2, **sizes)
    return make_data(train, valid, vocabulary=VOCABULARY, **options)


def make_model(cell: str, shape: dict[str, Any]) -> ModelConfig:
    return ModelConfig(cell=cell, embedding_size=32, **shape)


@pytest.mark.parametrize(
    "training",
    [
        TrainingConfig(),
        TrainingConfig(optimizer="sgd"),
        TrainingConfig(optimizer="adamw", weight_average=0.9),
    ],
)
@pytest.mark.parametrize("shape", SHAPES)
def test_weights_gradients_moments_and_splits_are_exact(
    shape: dict[str, Any], training: TrainingConfig
) -> None:
    data, model = make_documents(wide=True), make_model("lstm", {**shape, "wide": "add"})
    memory = MemoryEstimator(data).estimate(model, training)
    trainer = Trainer(model, training, data, seed=1)
    trainer.train_epoch()
    weights = [values for values in trainer.model.parameters() if values.requires_grad]
    moments = [
        values
        for state in trainer.optimizer.state.values()
        for values in state.values()
        if values.dim()
    ]
    assert memory.weights == memory.gradients == 4 * sum(values.numel() for values in weights)
    average = trainer.updater.average
    moments += average.others.values() if average else []
    assert memory.moments == 4 * sum(values.numel() for values in moments)
    with Meter() as meter:
        splits = [DeviceSplit(split, torch.device("cpu")) for split in (data.train, data.valid)]
        assert meter.bytes == memory.splits
        del splits
    assert memory.context == CONTEXT_BYTES


@pytest.mark.usefixtures("_loops_on_the_cpu")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cell", ["gru_reset_before", "mgu", "gru", "lstm"])
def test_the_peak_of_an_epoch_is_close_to_the_estimate(cell: str, shape: dict[str, Any]) -> None:
    data = make_documents()
    training = TrainingConfig(batch_size=32)
    model = make_model(cell, shape)
    memory = MemoryEstimator(data).estimate(model, training)
    trainer = Trainer(model, training, data, seed=1)
    with Meter() as meter:
        trainer.train_epoch()
    estimate = memory.gradients + memory.moments + memory.activations
    # The loops of cells that use cuDNN on a GPU keep some values that cuDNN does not need.
    assert (0.85 if CELLS.load(cell)().torch_function else 0.95) <= estimate / meter.peak <= 1.5


@pytest.mark.parametrize("cell", ["gru_reset_before", "mgu"])
def test_the_memory_of_graphs_is_close_to_the_estimate(cell: str) -> None:
    data = make_documents()
    shape = SHAPES[1]
    memory = MemoryEstimator(data).estimate(make_model(cell, shape), TrainingConfig(batch_size=16))
    loop = CELLS.load(cell)().loop
    assert loop is not None
    layers = stack.RecurrentStack(
        CELLS.load(cell)(), 32, 24, generator=torch.Generator(), bidirectional=True
    )

    def capture(run: Any, device: torch.device) -> Any:
        del device
        outputs = run()
        return lambda: None, outputs

    graphs = GraphedLoop(loop, capture)
    meter = Meter()
    for steps in (64, 32):  # The padded lengths of documents of up to 48 tokens.
        inputs = torch.zeros(steps, 32, 16)
        weights = loop.arrange(layers.layer_weights()[0])
        with meter:
            run_graphed_layer(graphs, inputs, None, weights).sum().backward()
    assert len(graphs) == 4
    for values in layers.parameters():
        values.grad = None
    assert 0.8 <= memory.graphs / meter.bytes <= 1.3


def test_a_layer_whose_weights_fit_on_the_chip_has_no_graphs() -> None:
    estimator = MemoryEstimator(make_documents())
    graphs = [
        estimator.estimate(
            make_model(cell, {"hidden_size": size}),
            TrainingConfig(precision=precision),
            shared_memory=memory,
        ).graphs
        for cell, size, precision, memory in (
            ("mgu", 64, "float32", 50_000),
            ("mgu", 65, "float32", 50_000),
            ("mgu", 64, "float32", 40_000),
            ("mgu", 64, "bfloat16", 40_000),
        )
    ]
    assert [count > 0 for count in graphs] == [False, True, True, False]


def test_packed_trials_do_not_run_on_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    # The driver asks for the GPU of another machine and may lack Triton.
    monkeypatch.setattr(selection, "triton_works", lambda: False)
    estimator, model = MemoryEstimator(make_documents()), make_model("gru", SHAPES[0])
    graphed, on_chip = (
        estimator.estimate(model, TrainingConfig(), trials=2, shared_memory=memory)
        for memory in (0, 10**9)
    )
    assert graphed.graphs > 0
    assert on_chip.graphs == 0


def test_a_wide_part_alone_needs_no_gpu_memory() -> None:
    memory = MemoryEstimator(make_documents()).estimate(ModelConfig(wide="only"), TrainingConfig())
    assert memory.total == 0


def test_cells_without_graphs_have_none() -> None:
    memory = MemoryEstimator(make_documents()).estimate(
        make_model("gru", SHAPES[0]), TrainingConfig()
    )
    assert memory.graphs == 0
    assert memory.total == sum(
        (memory.context, memory.splits, memory.weights, memory.gradients, memory.moments)
    ) + (memory.activations)


def test_fixed_word_vectors_have_no_gradients() -> None:
    vectors = torch.zeros(VOCABULARY, 32).numpy()
    model = make_model("gru", SHAPES[0])
    fixed = MemoryEstimator(make_documents(vectors=vectors, vectors_tuned=False))
    tuned = MemoryEstimator(make_documents(vectors=vectors))
    ours, theirs = (each.estimate(model, TrainingConfig()) for each in (fixed, tuned))
    assert theirs.gradients - ours.gradients == 4 * VOCABULARY * 32
    assert theirs.moments - ours.moments == 8 * VOCABULARY * 32


def test_plain_sgd_keeps_no_moments_and_packed_trials_share_documents_and_context() -> None:
    estimator = MemoryEstimator(make_documents())
    model, training = make_model("mgu", SHAPES[1]), TrainingConfig(optimizer="sgd", momentum=0)
    one = estimator.estimate(model, training)
    assert one.moments == 0
    shared = one.context + one.splits
    packed = estimator.estimate(model, training, trials=5)
    assert packed.total - shared == 5 * (one.total - shared)


def test_a_token_limit_bounds_the_batch() -> None:
    estimator = MemoryEstimator(make_documents())
    model = make_model("gru", SHAPES[0])
    limited, smaller, single = (
        estimator.estimate(model, training).activations
        for training in (
            TrainingConfig(batch_tokens=4 * LONGEST),
            TrainingConfig(batch_size=4),
            TrainingConfig(batch_tokens=1),
        )
    )
    assert limited == smaller == 4 * single


def test_a_token_limit_bounds_the_batches_of_a_pack_by_the_shortest_documents() -> None:
    documents, model, tokens = make_documents(), make_model("gru", SHAPES[0]), 2 * LONGEST
    estimator, trials = MemoryEstimator(documents), 4
    unlimited = estimator.estimate(model, TrainingConfig(batch_size=16), trials=trials)
    limited = TrainingConfig(batch_size=16, batch_tokens=tokens)
    share = estimator.estimate(model, limited, trials=trials).activations / unlimited.activations
    shortest = int(min(documents.train.lengths.min(), documents.valid.lengths.min()))
    assert share == min(16, tokens // shortest) / 16
    plans = [
        training_plan(documents.train, 16, seed=1, epoch=epoch, token_budget=tokens)
        for epoch in range(trials)
    ]
    packed = PackedPlans(DeviceSplit(documents.train, torch.device("cpu")), plans)
    largest = max(batch.ids[0].numel() for batch in packed)
    assert largest > tokens  # short documents of one trial beside long ones of another
    assert largest <= share * 16 * LONGEST


def test_a_cell_that_only_defines_a_step_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = CELLS.load("mgu")
    model = make_model("mgu", SHAPES[0])
    estimator = MemoryEstimator(make_documents())
    with_loop = estimator.estimate(model, TrainingConfig())
    monkeypatch.setattr(cell, "loop", None)
    without = estimator.estimate(model, TrainingConfig())
    assert without.graphs == 0
    assert without.activations > with_loop.activations
