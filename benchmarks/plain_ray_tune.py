"""Baseline of `benchmarks/search.py`: a search script in the style of Ray Tune's tutorials.

It uses DataLoader, pad_sequence, pack_padded_sequence, OptunaSearch and ASHAScheduler as shown in
their documentation. It writes no checkpoints, so it does less work than celltune.

Usage: python benchmarks/plain_ray_tune.py REVIEWS.csv.gz [--train 4000] [--valid 1500]
       [--trials 12] [--epochs 4] [--tokens 256] [--seed 1]
The last line of the output is a JSON object with the best validation accuracy and its settings.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import Any

import optuna
import pandas as pd
import ray
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader
from torchtext.data.utils import get_tokenizer

Example = tuple[torch.Tensor, int]
CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def load(options: argparse.Namespace) -> tuple[list[Example], list[Example], int]:
    reviews = pd.read_csv(options.reviews).sample(frac=1, random_state=options.seed)
    reviews = reviews[: options.train + options.valid]
    tokenize = get_tokenizer("basic_english")
    texts = [tokenize(text)[: options.tokens] for text in reviews["text"]]
    counts = Counter(word for text in texts[: options.train] for word in text)
    index = {word: number for number, (word, _) in enumerate(counts.most_common(25_000), start=2)}
    examples = [
        (torch.tensor([index.get(word, 1) for word in text]), int(label))
        for text, label in zip(texts, reviews["label"], strict=True)
    ]
    return examples[: options.train], examples[options.train :], len(index) + 2


def collate(batch: list[Example]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    texts, labels = zip(*batch, strict=True)
    lengths = torch.tensor([len(text) for text in texts])
    padded = pad_sequence(list(texts), batch_first=True)
    return padded, lengths, torch.tensor(labels, dtype=torch.float)


class Classifier(nn.Module):
    def __init__(self, config: dict[str, Any], words: int) -> None:
        super().__init__()
        layers = config["num_layers"]
        self.embedding = nn.Embedding(words, 100, padding_idx=0)
        self.rnn = CELLS[config["cell"]](
            100,
            config["hidden_size"],
            num_layers=layers,
            bidirectional=config["bidirectional"],
            dropout=config["dropout"] if layers > 1 else 0,
            batch_first=True,
        )
        self.directions = 2 if config["bidirectional"] else 1
        self.dropout = nn.Dropout(config["dropout"])
        self.output = nn.Linear(config["hidden_size"] * self.directions, 1)

    def forward(self, texts: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        embedded = self.dropout(self.embedding(texts))
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        _, state = self.rnn(packed)
        hidden = state[0] if isinstance(state, tuple) else state
        last = torch.cat(list(hidden[-self.directions :]), dim=1)
        return self.output(self.dropout(last)).squeeze(1)


def accuracy(model: nn.Module, loader: DataLoader[Example]) -> float:
    model.eval()
    correct = count = 0
    with torch.no_grad():
        for texts, lengths, labels in loader:
            correct += int(((model(texts, lengths) > 0) == (labels > 0.5)).sum())
            count += len(labels)
    return correct / count


def train(config: dict[str, Any], data: tuple[list[Example], list[Example], int]) -> None:
    torch.manual_seed(config["seed"])
    train_set, valid_set, words = data
    train_loader = DataLoader(train_set, batch_size=64, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(valid_set, batch_size=64, collate_fn=collate)
    model = Classifier(config, words)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["learning_rate"])
    criterion = nn.BCEWithLogitsLoss()
    for _ in range(config["epochs"]):
        model.train()
        for texts, lengths, labels in train_loader:
            optimizer.zero_grad()
            criterion(model(texts, lengths), labels).backward()
            optimizer.step()
        tune.report({"valid_accuracy": accuracy(model, valid_loader)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reviews")
    for name, default in (("train", 4000), ("valid", 1500), ("trials", 12), ("epochs", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    # Without an address, Ray looks for a cluster that may have ended, for minutes.
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    space = {
        "cell": tune.choice(list(CELLS)),
        "hidden_size": tune.choice([16, 32, 64]),
        "num_layers": tune.choice([1, 2]),
        "bidirectional": tune.choice([False, True]),
        "dropout": tune.uniform(0.0, 0.6),
        "learning_rate": tune.loguniform(3e-4, 1e-2),
        "epochs": options.epochs,
        "seed": options.seed,
    }
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(train, data=load(options)), {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="valid_accuracy",
            mode="max",
            num_samples=options.trials,
            max_concurrent_trials=2,
            search_alg=OptunaSearch(sampler=optuna.samplers.TPESampler(seed=options.seed)),
            scheduler=ASHAScheduler(max_t=options.epochs, grace_period=1, reduction_factor=2),
        ),
    )
    results = tuner.fit()
    best = results.get_best_result(scope="all")
    frame = results.get_dataframe(filter_metric="valid_accuracy", filter_mode="max")
    epochs = int(results.get_dataframe()["training_iteration"].sum())
    figures = {
        "valid_accuracy": float(frame["valid_accuracy"].max()),
        "trials": len(results),
        "epochs": epochs,
        "best": {key: value for key, value in (best.config or {}).items() if key in space},
    }
    print(json.dumps(figures, default=str))


if __name__ == "__main__":
    main()
