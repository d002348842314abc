"""The one training loop: plain torch, for every method and objective, on one worker or many.

The loss of a step is the sum over its target tokens divided by their number, over all forward passes and all workers,
so that neither accumulation nor the number of workers changes what is learned. Workers take forward passes in turn, add
up gradients, and so hold equal weights after every step.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from anneal.training.domain.checkpoint import Checkpoints, Progress
from anneal.training.domain.errors import NotFinite
from anneal.training.domain.order import Order
from anneal.training.domain.packing import IGNORED, Batch, collate
from anneal.training.domain.samples import Sample
from anneal.training.domain.schedule import learning_rate
from anneal.training.domain.spec import TrainingSpec
from anneal.training.domain.world import World

Rows = Sequence[Sequence[Sample]]


@dataclass(frozen=True, slots=True)
class StepDone:
    """One optimizer step. `loss` is nats per target token; `num_tokens` counts without padding, over all workers."""

    step: int
    num_steps: int
    loss: float
    learning_rate: float
    grad_norm: float
    num_tokens: int
    num_targets: int


@dataclass(frozen=True, slots=True)
class Validated:
    """One validation. `loss` is nats per target token over the whole validation split."""

    step: int
    loss: float
    num_targets: int
    is_best: bool


Report = Callable[[StepDone | Validated], None]


class Loop:
    """Trains a model on packed rows.

    Args:
        model: a causal language model; parameters that need no gradient stay as they are.
        rows: packed training rows.
        validation: packed validation rows; empty means no validation and no early stopping.
        report: told of every step and validation on rank 0; it may raise to stop the run.
        checkpoints: written by rank 0, read by all; None keeps nothing.
    """

    def __init__(
        self,
        *,
        model: Any,
        spec: TrainingSpec,
        rows: Rows,
        validation: Rows,
        pad_id: int,
        world: World,
        report: Report,
        checkpoints: Checkpoints | None = None,
        device: torch.device | None = None,
    ) -> None:
        """Prepare the optimizer; nothing is computed yet."""
        self._model = model
        self._spec = spec
        self._rows = rows
        self._validation = validation
        self._pad_id = pad_id
        self._world = world
        self._report = report
        self._checkpoints = checkpoints
        self._device = device or torch.device("cpu")
        self._keeps_logits = takes_logits_to_keep(model)
        self._order = Order(spec, len(rows))
        self.weights: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._optimizer = _adamw(self.weights, spec)
        self._best: dict[str, Tensor] | None = None
        self._progress = Progress(0, None, None, 0, False, [])

    @property
    def num_steps(self) -> int:
        """Steps of the whole run, unless it stops early."""
        return self._order.num_steps

    def run(self) -> Progress:
        """Train from the newest checkpoint, or from the start, to the end; leave the best weights in the model.

        Raises:
            NotFinite: loss or gradient is not a finite number; the weights are those before the step.
            CheckpointForeign: the folder holds another run's checkpoints.
        """
        self._resume()
        self._model.train()
        while not self._progress.is_finished:
            self._advance()
        if self._best is not None:
            with torch.no_grad():
                for name, tensor in self.weights.items():
                    tensor.copy_(self._best[name])
        self._model.eval()
        return self._progress

    def _resume(self) -> None:
        if self._checkpoints is None:
            return
        found = self._checkpoints.load(self.weights, self._optimizer)
        if found is not None:
            self._progress, self._best = found
        self._world.meet()

    def _advance(self) -> None:
        """Do one step, and whatever is due after it."""
        progress = self._progress
        self._tell(self._step(progress.step))
        progress.step += 1
        is_last = progress.step >= self.num_steps
        quarter = math.ceil(self._order.steps_per_epoch / 4)
        eval_every = self._spec.eval_every_steps or quarter
        is_validation_due = bool(self._validation) and self._is_due(eval_every)
        if is_validation_due:
            self._validate()
        progress.is_finished = is_last or 0 < self._spec.patience <= progress.num_stale
        is_due = self._is_due(self._spec.checkpoint_every_steps or eval_every) or progress.is_finished
        if self._checkpoints is not None and is_due:
            if self._world.rank == 0:
                self._checkpoints.save(progress, self.weights, self._optimizer, self._best)
            self._world.meet()

    def _is_due(self, every: int) -> bool:
        step = self._progress.step
        return step % every == 0 or step >= self.num_steps

    def _tell(self, event: StepDone | Validated) -> None:
        self._progress.curve.append(asdict(event))
        if self._world.rank == 0:
            self._report(event)

    def _step(self, step: int) -> StepDone:
        """Accumulate the gradient of one step over all forward passes and workers, and apply it."""
        rate = learning_rate(self._spec, step, self.num_steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        numbered = list(enumerate(self._order.forwards(step)))[self._world.rank :: self._world.size]
        batches = [(n, self._batch([self._rows[i] for i in rows])) for n, rows in numbered]
        sums = torch.zeros(4, dtype=torch.float64)
        sums[1] = sum(b.num_targets for _, b in batches)
        sums[3] = sum(b.weight for _, b in batches)
        sums[2] = sum(len(s) for _, rows in numbered for i in rows for s in self._rows[i])
        totals = sums.clone()
        self._world.add_up(totals)
        weight = float(totals[3]) or 1.0
        self._optimizer.zero_grad(set_to_none=True)
        for number, batch in batches:
            torch.manual_seed(self._order.dropout_seed(step, number))
            loss_sum = self._loss_sum(batch)
            torch.autograd.backward(loss_sum / weight)
            sums[0] += float(loss_sum.detach())
        self._add_up_gradients()
        loss_total = sums[:1].clone()
        self._world.add_up(loss_total)
        loss = float(loss_total) / weight
        norm = float(torch.nn.utils.clip_grad_norm_(list(self.weights.values()), self._spec.max_grad_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise NotFinite(
                f"the loss stopped being finite at step {step + 1} (loss {loss}, gradient norm {norm}, learning rate "
                f"{rate:.3g}); lower the learning rate or look at the data",
                step=step + 1,
                loss=loss,
                grad_norm=norm,
                learning_rate=rate,
            )
        self._optimizer.step()
        return StepDone(step + 1, self.num_steps, loss, rate, norm, int(totals[2]), int(totals[1]))

    def _add_up_gradients(self) -> None:
        if self._world.size == 1:
            return
        for weight in self.weights.values():
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        gradients = [w.grad for w in self.weights.values() if w.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        self._world.add_up(flat)
        for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    @torch.no_grad()
    def _validate(self) -> None:
        progress = self._progress
        self._model.eval()
        sums = torch.zeros(3, dtype=torch.float64)
        size = self._spec.rows_per_forward
        forwards = [self._validation[i : i + size] for i in range(0, len(self._validation), size)]
        for rows in forwards[self._world.rank :: self._world.size]:
            batch = self._batch(rows)
            told = [float(self._loss_sum(batch)), batch.weight, batch.num_targets]
            sums += torch.tensor(told, dtype=torch.float64)
        self._world.add_up(sums)
        self._model.train()
        loss = float(sums[0]) / (float(sums[1]) or 1.0)
        if not math.isfinite(loss):
            raise NotFinite(
                f"the validation loss is not finite after step {progress.step}", step=progress.step, loss=loss
            )
        is_best = progress.best_loss is None or loss < progress.best_loss - self._spec.min_improvement
        if is_best:
            progress.best_step, progress.best_loss, progress.num_stale = progress.step, loss, 0
            self._best = {n: w.detach().clone() for n, w in self.weights.items()}
        else:
            progress.num_stale += 1
        self._tell(Validated(progress.step, loss, int(sums[2]), is_best))

    def _batch(self, rows: Rows) -> Batch:
        return collate(rows, pad_id=self._pad_id).to(self._device)

    def _loss_sum(self, batch: Batch) -> Tensor:
        """Return the cross entropy summed over target tokens, in nats, each times its weight.

        The cache is off: with one, transformers ignores the position ids and packed samples would see each other.
        Logits are computed for the columns that hold a target in any row: of a short answer to a long prompt they would
        cost as much as a fifth of a small model, and most of the memory.
        """
        columns = (batch.labels_RL != IGNORED).any(dim=0).nonzero().flatten()
        wanted = {"logits_to_keep": columns} if self._keeps_logits and len(columns) > 0 else {}
        with autocast(self._spec, self._device):
            logits_RCV = self._model(
                input_ids=batch.token_ids_RL, position_ids=batch.position_ids_RL, use_cache=False, **wanted
            ).logits
        labels_RC = batch.labels_RL[:, columns] if wanted else batch.labels_RL
        logits, labels = logits_RCV.flatten(0, 1).float(), labels_RC.flatten()
        if batch.weights_RL is None:
            return F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
        weights_RC = batch.weights_RL[:, columns] if wanted else batch.weights_RL
        each = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
        return (each * weights_RC.flatten()).sum()


def takes_logits_to_keep(model: Any) -> bool:
    """Whether a model's forward pass can be asked for the logits of some positions only, as most of transformers'."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(base.forward).parameters


def autocast(spec: TrainingSpec, device: torch.device) -> AbstractContextManager[Any]:
    """What forward passes of a run are computed in."""
    if spec.precision != "bfloat16":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def _adamw(weights: dict[str, Tensor], spec: TrainingSpec) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101); vectors, such as norms' gains, are not decayed."""
    groups = [{"params": [w], "weight_decay": spec.weight_decay if w.ndim > 1 else 0.0} for w in weights.values()]
    return torch.optim.AdamW(groups, lr=spec.learning_rate, betas=(spec.beta1, spec.beta2), eps=1e-8)
