"""Section 1: results on the GPU against float64 on the CPU, resumed runs, and determinism."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.models.config import ModelConfig, Precision, TrainingConfig
from celltune.models.extensions import CELLS, READOUTS
from celltune.models.native import library as native
from celltune.models.network.classifier import TextClassifier
from celltune.models.training.precision import mixed_precision, tf32_products
from celltune.models.training.trainer import Trainer

from .common import Deadline, Options, Report, context_is_lost, synchronize
from .compiling import Compilation, Job
from .documents import synthetic_data

PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16", "float16")
CELL_ORDER = ("gru", "lstm", "rnn", "gru_reset_before", "mgu")
BOUNDS = {"float32": 1e-4, "tf32": 5e-3, "bfloat16": 5e-2, "float16": 5e-2}
"""Largest relative error of logits and of gradients, norm(x - reference) / norm(reference)."""
MAX_READOUT_BOUNDS = {**BOUNDS, "tf32": 1e-1, "bfloat16": 3e-1, "float16": 3e-1}
"""The same for gradients through the readouts `max` and `max_mean`.

Rounding moves the position of a maximum between states that are almost equal, and the whole
gradient of that feature moves with it.
"""
LOSS_SCALE = 1024.0
"""Factor of the loss in float16, as in training, where GradScaler selects it."""
LENGTHS = (21, 1, 9, 21, 15, 2, 12, 18, 7, 20, 16, 3)
VOCABULARY, CLASSES, FEATURES = 60, 3, 12
TRAINING_SHARE = 0.6
"""Largest share of the time after the first cases that trainings may take."""
FIRST_SHAPE = (2, True, "mean")
"""Layers, directions and readout that are checked first, with every cell and precision."""
SAVED_EVERY = 20
COMPILING_SHARE = 0.65
"""Share of the section's time after which it no longer waits for kernels."""
HIDDEN = {1: 20, 2: 64}
"""Hidden size by number of layers; 20 is no multiple of the tiles of a GPU."""


@dataclass(frozen=True)
class Case:
    """A model and a precision."""

    cell: str
    layers: int
    bidirectional: bool
    readout: str
    precision: Precision

    def config(self) -> ModelConfig:
        """Return the config of the model."""
        return ModelConfig(
            cell=self.cell,
            hidden_size=HIDDEN[self.layers],
            num_layers=self.layers,
            bidirectional=self.bidirectional,
            embedding_size=FEATURES,
            embedding_std=1.0,
            readout=self.readout,
        )

    def __str__(self) -> str:
        directions = "two directions" if self.bidirectional else "one direction"
        return f"{self.cell}, {self.layers} layers, {directions}, {self.readout}, {self.precision}"


def all_cases(precisions: Sequence[Precision] = PRECISIONS) -> Iterator[Case]:
    """Yield every valid combination: one of each cell and precision, then the others."""
    combinations = list(_combinations(precisions))
    first = [case for case in combinations if _shape(case) == FIRST_SHAPE]
    yield from first
    yield from (case for case in combinations if case not in first)


def _shape(case: Case) -> tuple[int, bool, str]:
    return case.layers, case.bidirectional, case.readout


def _combinations(precisions: Sequence[Precision]) -> Iterator[Case]:
    names = [name for name in CELL_ORDER if name in CELLS.names()]
    names += [name for name in CELLS.names() if name not in names]
    shapes = ((1, False), (2, True), (1, True), (2, False))
    for precision, cell, (layers, both) in itertools.product(precisions, names, shapes):
        for readout in READOUTS.names():
            if READOUTS.load(readout).min_layers <= layers:
                yield Case(cell, layers, both, readout, precision)


@dataclass(frozen=True)
class Outcome:
    """Logits, the gradients of all parameters, and logits with other ids in the padding."""

    logits: Tensor
    gradients: dict[str, Tensor]
    other_padding: Tensor


def _batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    lengths = torch.tensor(LENGTHS)
    steps = int(lengths.max())
    ids = torch.randint(2, VOCABULARY, (steps, len(lengths)), generator=generator)
    padding = torch.arange(steps)[:, None] >= lengths
    labels = torch.randint(0, CLASSES, (len(lengths),), generator=generator)
    return ids.masked_fill(padding, 1), ids, lengths, labels


def compute(case: Case, device: torch.device, dtype: torch.dtype) -> Outcome:
    """Run a model forward and backward on a padded batch.

    Args:
        case: the model; its precision has an effect on a GPU in float32 only.
        device: where it runs.
        dtype: the type of its parameters.
    """
    model = TextClassifier(case.config(), VOCABULARY, CLASSES, torch.Generator().manual_seed(3))
    model = model.to(device, dtype)
    ids, other_ids, lengths, labels = _batch()
    ids, other_ids, labels = (values.to(device) for values in (ids, other_ids, labels))
    on_gpu = device.type == "cuda" and dtype == torch.float32
    precision: Precision = case.precision if on_gpu else "float32"
    scale = LOSS_SCALE if precision == "float16" else 1.0
    with tf32_products(precision):
        with mixed_precision(precision, device.type):
            logits = model(ids, lengths)
        loss = functional.cross_entropy(logits, labels)
        (loss * scale).backward()
        with torch.no_grad(), mixed_precision(precision, device.type):
            other = model(other_ids, lengths)
    gradients = {
        name: values.grad.detach().double().cpu() / scale
        for name, values in model.named_parameters()
        if values.grad is not None
    }
    return Outcome(logits.detach().double().cpu(), gradients, other.double().cpu())


def relative_error(actual: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """Return norm(actual - reference) / norm(reference) of all values; NaN stays NaN."""
    difference = torch.cat([(a - b).flatten() for a, b in zip(actual, reference, strict=True)])
    return float(difference.norm() / torch.cat([b.flatten() for b in reference]).norm())


def check_case(case: Case, device: torch.device, reference: Outcome) -> dict[str, Any]:
    """Return the errors of a case and whether they are within the bounds."""
    outcome = compute(case, device, torch.float32)
    names = list(reference.gradients)
    logits = relative_error([outcome.logits], [reference.logits])
    gradients = relative_error(
        [outcome.gradients[name] for name in names], [reference.gradients[name] for name in names]
    )
    padding = relative_error([outcome.other_padding], [outcome.logits])
    bounds = MAX_READOUT_BOUNDS if case.readout in ("max", "max_mean") else BOUNDS
    passed = (
        logits <= BOUNDS[case.precision]
        and gradients <= bounds[case.precision]
        and padding <= BOUNDS[case.precision]
    )
    return {"logits": logits, "gradients": gradients, "padding": padding, "passed": passed}


class References:
    """The results in float64 on the CPU. All precisions of a model share one."""

    def __init__(self) -> None:
        """Create an empty collection."""
        self._outcomes: dict[ModelConfig, Outcome] = {}

    def get(self, case: Case) -> Outcome:
        """Return the result of a case, which is computed once."""
        config = case.config()
        if config not in self._outcomes:
            with native.disabled():
                self._outcomes[config] = compute(case, torch.device("cpu"), torch.float64)
        return self._outcomes[config]


def check_cases(
    cases: Sequence[Case],
    options: Options,
    deadline: Deadline,
    rep: Report,
    references: References | None = None,
) -> None:
    """Check all cases that the time allows and add them to the figures."""
    references = References() if references is None else references
    rows: list[dict[str, Any]] = rep.details.setdefault("cases", [])
    for number, case in enumerate(cases):
        if deadline.passed:
            rep.left_out.append(f"{len(cases) - number} of {len(cases)} cases of the numerics")
            break
        row: dict[str, Any] = {**asdict(case), "passed": False}
        rows.append(row)
        try:
            row.update(check_case(case, options.device, references.get(case)))
        except Exception as error:  # noqa: BLE001 (a failed case must not end the run)
            row["error"] = str(error)[:500]
            rep.fail(str(case), error)
            if context_is_lost(error):
                rep.left_out.append(f"{len(cases) - number - 1} cases after a lost CUDA context")
                break
        if number % SAVED_EVERY == 0:
            _add_figures(rows, rep)
    _add_figures(rows, rep)


def _add_figures(rows: Sequence[dict[str, Any]], rep: Report) -> None:
    rep.figures["numerics_cases"] = len(rows)
    rep.figures["numerics_passed"] = sum(row["passed"] for row in rows)
    rep.save()


def _print_cases(rows: Sequence[dict[str, Any]]) -> None:
    print(f"  {'cell':17} {'precision':9} {'passed':>7}  worst logits, gradients, padding")
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["cell"], row["precision"]), []).append(row)
    for (cell, precision), group in groups.items():
        ran = [row for row in group if "logits" in row]
        worst = [max((row[key] for row in ran), default=float("nan")) for key in _ERRORS]
        passed = f"{sum(row['passed'] for row in group)}/{len(group)}"
        errors = "  ".join(f"{value:.1e}" for value in worst)
        print(f"  {cell:17} {precision:9} {passed:>7}  {errors}", flush=True)


_ERRORS = ("logits", "gradients", "padding")


def compare_states(first: dict[str, Tensor], second: dict[str, Tensor]) -> tuple[float, float]:
    """Return the share of bitwise equal values and the largest difference of two states."""
    equal = total = 0
    largest = 0.0
    for name, values in first.items():
        other = second[name]
        equal += int((values == other).sum())
        total += values.numel()
        largest = max(largest, float((values.double() - other.double()).abs().max()))
    return equal / total, largest


def _train(
    data: PreparedData, case: Case, device: torch.device, epochs: Sequence[int]
) -> dict[str, Tensor]:
    """Train for some epochs, with a new trainer that continues from the state after each part."""
    model = case.config().model_copy(update={"dropout": 0.3})
    training = TrainingConfig(batch_size=32, precision=case.precision)
    state = None
    for count in epochs:
        trainer = Trainer(model, training, data, seed=1, device=str(device))
        if state is not None:
            trainer.load_state(*state)
        for _ in range(count):
            trainer.run_epoch()
        state = trainer.state()
    if state is None:
        raise ValueError("At least one part of a training is needed.")
    return state[0]


def check_trainings(options: Options, deadline: Deadline, rep: Report) -> None:
    """Compare equal and resumed trainings of every cell."""
    documents, tokens = (12, 8) if options.quick else (96, 48)
    data = synthetic_data(documents, documents // 3, words=200, max_tokens=tokens)
    layers, parts = (1, [1, 1]) if options.quick else (2, [2, 2])
    kinds = [*((cell, "float32") for cell in CELL_ORDER), ("gru", "float16"), ("mgu", "float16")]
    rows: list[dict[str, Any]] = []
    for cell, precision in kinds:
        if deadline.passed:
            rep.left_out.append(f"resumed training of {cell} in {precision}")
            continue
        case = Case(cell, layers, True, "max", precision)  # type: ignore[arg-type]
        try:
            once = _train(data, case, options.device, [sum(parts)])
            again = _train(data, case, options.device, [sum(parts)])
            resumed = _train(data, case, options.device, parts)
        except Exception as error:  # noqa: BLE001 (a failed training must not end the run)
            rep.fail(f"training of {cell} in {precision}", error)
            continue
        same, difference = compare_states(once, again)
        resumed_same, resumed_difference = compare_states(once, resumed)
        rows.append(
            {
                "cell": cell,
                "precision": precision,
                "equal_share": same,
                "largest_difference": difference,
                "resumed_equal_share": resumed_same,
                "resumed_largest_difference": resumed_difference,
            }
        )
        print(
            f"  {cell:17} {precision:9} two equal runs: {100 * same:.2f} % bitwise equal, largest "
            f"difference {difference:.1e}; resumed: {100 * resumed_same:.2f} %, "
            f"{resumed_difference:.1e}",
            flush=True,
        )
        _add_training_figures(rows, rep)


def _add_training_figures(rows: Sequence[dict[str, Any]], rep: Report) -> None:
    rep.details["trainings"] = rows
    rep.figures["deterministic_share"] = min(row["equal_share"] for row in rows)
    rep.figures["repeat_difference"] = max(row["largest_difference"] for row in rows)
    rep.figures["resume_share"] = min(row["resumed_equal_share"] for row in rows)
    rep.figures["resume_difference"] = max(row["resumed_largest_difference"] for row in rows)
    rep.save()


def compiled_jobs(precisions: Sequence[Precision] = ("float32", "tf32")) -> list[Job]:
    """Return the kernels of the section; bfloat16 and float16 use those of TF32."""
    return [
        Job(cell, hidden, precision)
        for precision in precisions
        for hidden in HIDDEN.values()
        for cell in CELL_ORDER
    ]


def measure(options: Options, deadline: Deadline, rep: Report) -> None:
    """Run the section: a case of each cell and precision, trainings, then all other cases."""
    on_gpu = options.device.type == "cuda"
    cases = list(all_cases(PRECISIONS if on_gpu else ("float32",)))
    if options.quick:
        cases = cases[:5] + cases[5::4]
    first = len({(case.cell, case.precision) for case in cases})
    torch.set_num_threads(1)  # The operations are so small that threads only wait for each other.
    references = References()
    with Compilation(compiled_jobs(), options.device) as compilation:
        limit = deadline.part(COMPILING_SHARE)
        if on_gpu:
            for case in cases:
                if limit.passed:
                    break
                references.get(case)
        rep.details["compile_seconds"] = compilation.wait(max(0.0, limit.left))
    started = time.monotonic()
    check_cases(cases[:first], options, deadline, rep, references)
    check_trainings(options, deadline.part(TRAINING_SHARE), rep)
    check_cases(cases[first:], options, deadline, rep, references)
    rep.details["measuring_seconds"] = time.monotonic() - started
    _print_cases(rep.details["cases"])
    synchronize(options.device)
