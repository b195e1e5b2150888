"""The classifier and its configs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.nn import functional

from celltune.data_prep.dataset.tensorized import PAD
from celltune.data_prep.errors import DataError
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.errors import TrialError
from celltune.models.extensions import CELLS, READOUTS
from celltune.models.layers.dropout import dropout
from celltune.models.network.classifier import TextClassifier


@pytest.mark.parametrize("readout", READOUTS.names())
@settings(max_examples=15, deadline=None)
@given(
    cell=st.sampled_from(CELLS.names()),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    bidirectional=st.booleans(),
    classes=st.integers(2, 3),
)
def test_document_has_the_same_logits_alone_and_in_any_batch(
    readout: str, cell: str, lengths: list[int], bidirectional: bool, classes: int
) -> None:
    config = ModelConfig(
        cell=cell,
        hidden_size=3,
        num_layers=2,
        bidirectional=bidirectional,
        embedding_size=4,
        readout=readout,
    )
    model = TextClassifier(config, 20, classes).eval()
    steps = max(lengths)
    ids = torch.randint(2, 20, (steps, len(lengths)), generator=torch.Generator().manual_seed(1))
    for b, length in enumerate(lengths):
        ids[length:, b] = PAD
    together = model(ids, torch.tensor(lengths))
    assert together.shape == ((len(lengths),) if classes == 2 else (len(lengths), classes))
    for b, length in enumerate(lengths):
        alone = model(ids[:length, b : b + 1], torch.tensor([length]))
        torch.testing.assert_close(together[b : b + 1], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("readout", ["mean", "max"])
def test_readout_equals_its_definition(readout: str) -> None:
    config = ModelConfig(cell="rnn", hidden_size=3, embedding_size=4, readout=readout)
    model = TextClassifier(config, 9, 2)
    ids, lengths = torch.tensor([[3, 4], [5, PAD], [6, PAD]]), torch.tensor([3, 1])
    mask = torch.arange(3)[:, None] < lengths
    embedded = model.embedding[ids].transpose(1, 2)
    states = model.recurrent(embedded, mask[:, None])[:, :, 0]  # (T, F) of the first document
    vector = states.mean(0) if readout == "mean" else states.amax(0)
    expected = vector @ model.output_weight[0] + model.output_bias[0]
    logits = model(ids, lengths)
    torch.testing.assert_close(logits[0], expected)
    actual = torch.autograd.grad(logits[0], model.recurrent.weight_ih_l0)
    wanted = torch.autograd.grad(expected, model.recurrent.weight_ih_l0)
    torch.testing.assert_close(actual, wanted)


def test_max_mean_and_attention_equal_their_definitions() -> None:
    config = ModelConfig(cell="gru", hidden_size=3, embedding_size=4, bidirectional=True)
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(4, 6, 2, generator=generator)
    lengths = torch.tensor([4, 2])
    mask = (torch.arange(4)[:, None] < lengths)[:, None]
    states[2:, :, 1] = torch.inf  # States at padding can be anything.
    both = READOUTS.load("max_mean")(config, generator)
    attention = READOUTS.load("attention")(config, generator)
    assert (both.features, attention.features) == (12, 6)
    for document, length in enumerate(lengths.tolist()):
        own = states[:length, :, document]  # (T, S)
        expected = torch.cat([own.amax(0), own.mean(0)])
        torch.testing.assert_close(both([states], lengths, mask)[document], expected)
        hidden = torch.tanh(functional.linear(own, attention.weight, attention.bias))
        weights = torch.softmax(hidden @ attention.context, 0)
        expected = weights @ own
        torch.testing.assert_close(attention([states], lengths, mask)[document], expected)


def test_word_dropout_replaces_whole_vectors_by_zero() -> None:
    config = ModelConfig(cell="gru", hidden_size=3, embedding_size=4, word_dropout=0.25)
    model = TextClassifier(config, 9, 2)
    embedded = torch.ones(200, 50, 4)
    dropped = model._drop_words(embedded)
    assert set(dropped.unique().tolist()) == {0.0, 1.0}
    assert (dropped == dropped[:, :, :1]).all()
    assert float(dropped.mean()) == pytest.approx(0.75, abs=0.02)
    assert model.eval()._drop_words(embedded) is embedded


def test_word_vectors_can_have_a_dropout_of_their_own() -> None:
    assert ModelConfig(cell="gru", dropout=0.3).of_embedding == 0.3
    config = ModelConfig(cell="gru", dropout=0.3, embedding_dropout=0.0)
    assert config.of_embedding == 0
    ids, lengths = torch.tensor([[3], [4]]), torch.tensor([2])
    single = {"hidden_size": 3, "embedding_size": 4, "cell": "gru"}
    model = TextClassifier(ModelConfig(**single, embedding_dropout=0.9), 9, 2)
    generated = {model(ids, lengths).item() for _ in range(20)}
    assert len(generated) > 1
    model = TextClassifier(ModelConfig(**single), 9, 2)
    assert len({model(ids, lengths).item() for _ in range(20)}) == 1


def test_output_scale_multiplies_the_initial_output_layer() -> None:
    plain, scaled = (
        TextClassifier(ModelConfig(cell="gru", output_scale=scale), 9, 3) for scale in (1.0, 0.1)
    )
    torch.testing.assert_close(scaled.output_weight, 0.1 * plain.output_weight)
    torch.testing.assert_close(scaled.output_bias, 0.1 * plain.output_bias)
    assert torch.equal(scaled.embedding, plain.embedding)


@given(rate=st.floats(0, 0.95), count=st.integers(1, 50))
def test_dropout_preserves_the_shape_and_scales_the_rest(rate: float, count: int) -> None:
    values = torch.ones(count, 3)
    dropped = dropout(values, rate, True, torch.Generator().manual_seed(2))
    assert dropped.shape == values.shape
    kept = dropped[dropped != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - rate)), rtol=1e-3, atol=0)


def test_dropout_drops_its_rate_in_training_only() -> None:
    values = torch.ones(100_000)
    dropped = dropout(values, 0.3, True, torch.Generator().manual_seed(2))
    assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.02)
    assert dropout(values, 0.3, False) is values
    assert dropout(values, 0.0, True) is values


def test_layer_dropout_applies_only_between_layers() -> None:
    assert ModelConfig(cell="gru", dropout=0.5).between_layers == 0.0
    assert ModelConfig(cell="gru", dropout=0.5, num_layers=2).between_layers == 0.5
    several = ModelConfig(cell="gru", dropout=0.5, layer_dropout=0.1, num_layers=2)
    assert several.between_layers == 0.1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cell": "gruu"}, r"'gruu' is not a cell. Did you mean 'gru'\? Allowed: rnn, "),
        ({"cell": "gru", "hidden_size": 0}, "hidden_size"),
        ({"cell": "gru", "num_layers": 0}, "num_layers"),
        ({"cell": "gru", "dropout": 1.0}, "less than 1"),
        ({"cell": "gru", "dropout": -0.1}, "greater than or equal to 0"),
        ({"cell": "gru", "readout": "men"}, r"'men' is not a readout. Did you mean 'mean'\?"),
        ({"cell": "rnn", "nonlinearity": "sine"}, "'tanh' or 'relu'"),
        ({"cell": "gru", "hiden_size": 3}, "Extra inputs are not permitted"),
    ],
)
def test_invalid_model_config_is_rejected(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig.model_validate(values)


@pytest.mark.parametrize(
    "values",
    [
        {"learning_rate": 0},
        {"batch_size": 0},
        {"gradient_clip": 0},
        {"gradient_clip": float("inf")},
        {"momentum": 1.0},
        {"optimizer": "adagrad"},
    ],
)
def test_invalid_training_config_is_rejected(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(values))):
        TrainingConfig.model_validate(values)


@pytest.mark.parametrize(
    ("ids", "lengths", "message"),
    [
        (
            [[3, 4], [5, 6]],
            [2, 0],
            r"A length in a batch is 0\. Lengths are from 1 to 2, the",
        ),
        (
            [[3, 4], [5, 6]],
            [2, 3],
            r"A length in a batch is 3\. Lengths are from 1 to 2, the",
        ),
        (
            [[3, 9]],
            [1, 1],
            r"A word id in a batch is 9\. Allowed values are 0 to 8 \(vocab",
        ),
        ([[-1, 3]], [1, 1], r"A word id in a batch is -1\. Allowed values are 0 to 8"),
    ],
)
def test_invalid_batch_is_rejected(ids: list[list[int]], lengths: list[int], message: str) -> None:
    model = TextClassifier(ModelConfig(cell="gru", hidden_size=3, embedding_size=4), 9, 2)
    with pytest.raises(DataError, match=message):
        model(torch.tensor(ids), torch.tensor(lengths))


@pytest.mark.parametrize("config", [ModelConfig, TrainingConfig])
def test_every_field_has_a_description(config: type[ModelConfig] | type[TrainingConfig]) -> None:
    assert all(field.description for field in config.model_fields.values())


def test_two_layer_lstm_has_the_expected_number_of_parameters() -> None:
    config = ModelConfig(
        cell="lstm",
        hidden_size=256,
        num_layers=2,
        embedding_size=100,
        dropout=0.5,
        readout="last_two_layers",
    )
    model = TextClassifier(config, 25_002, 2)
    assert sum(values.numel() for values in model.parameters()) == 3_393_641


@pytest.mark.parametrize("bidirectional", [False, True])
def test_last_two_layers_equal_the_final_states_of_torch(bidirectional: bool) -> None:
    config = ModelConfig(
        cell="gru",
        hidden_size=3,
        num_layers=3,
        bidirectional=bidirectional,
        embedding_size=4,
        readout="last_two_layers",
        output_relu=True,
    )
    model = TextClassifier(config, 9, 3)
    module = torch.nn.GRU(4, 3, 3, bidirectional=bidirectional)
    module.load_state_dict(model.recurrent.state_dict())
    ids, lengths = torch.tensor([[3, 4], [5, 6], [6, PAD]]), torch.tensor([3, 2])
    packed = torch.nn.utils.rnn.pack_padded_sequence(model.embedding[ids], lengths)
    final = module(packed)[1]  # (layers * D, B, H)
    count = 4 if bidirectional else 2
    features = torch.cat(list(final[-count:]), dim=1).relu()
    expected = features @ model.output_weight.t() + model.output_bias
    torch.testing.assert_close(model(ids, lengths), expected)


def test_output_relu_removes_negative_features() -> None:
    config = ModelConfig(cell="rnn", hidden_size=3, embedding_size=4, output_relu=True)
    model = TextClassifier(config, 9, 2)
    with torch.no_grad():
        model.recurrent.bias_ih_l0.fill_(-20.0)  # every state is -1
    logits = model(torch.tensor([[3]]), torch.tensor([1]))
    torch.testing.assert_close(logits, model.output_bias)


def test_nonlinearity_changes_only_the_cell_rnn() -> None:
    for cell in CELLS.names():
        models = [
            TextClassifier(
                ModelConfig(cell=cell, hidden_size=3, embedding_size=4, nonlinearity=nonlinearity),
                9,
                2,
            )
            for nonlinearity in ("tanh", "relu")
        ]
        first, second = (model(torch.tensor([[3], [4]]), torch.tensor([2])) for model in models)
        assert torch.equal(first, second) == (cell != "rnn")


def test_readout_with_too_few_layers_is_rejected() -> None:
    config = ModelConfig(cell="gru", readout="last_two_layers")
    with pytest.raises(TrialError, match="'last_two_layers' needs at least 2 layers, but num_"):
        TextClassifier(config, 9, 2)
