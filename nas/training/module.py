"""One candidate as lightning trains it: loss, optimiser, learning rate, and what is read off each step.

Shapes: B images of C channels, H × W pixels, K classes.
"""

import math
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.training.config import TrainingConfig

Batch = tuple[Tensor, Tensor]

FP16_SKIPS = 16
"""Steps in a row that the fp16 loss scaler may skip before they count as non-finite."""


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight matrices and kernels decay; vectors and scalars (norms, biases, λ, γ) do not."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def learning_rate(step: int, *, steps_per_epoch: int, config: TrainingConfig) -> float:
    """Rate of one optimiser step: linear warm-up over at most half the run, then the schedule.

    The cosine is that of I. Loshchilov and F. Hutter, SGDR, 2017, without restarts.
    """
    total = steps_per_epoch * config.epochs
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total // 2)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    done = (step - warmup) / (total - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


class CandidateModule(L.LightningModule):
    """Trains one network. Losses and norms stay tensors until `drain_steps`: no step waits for a GPU."""

    val_loss_sum: Tensor
    val_top5: Tensor
    """Labels among the five highest logits, a count."""
    val_counts: Tensor
    """(3, K): labels, predictions, and where both agree."""

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        *,
        steps_per_epoch: int,
        first_epoch: int = 0,
        optimizer_state: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.steps_per_epoch = steps_per_epoch
        self.step = first_epoch * steps_per_epoch
        self.rate = 0.0
        self.rate_factor = 1.0
        self._optimizer_state = optimizer_state
        self._steps: list[tuple[Tensor, Tensor]] = []
        self._loss = torch.tensor(math.nan)
        self._val_seen = 0

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        if self.config.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return self.model(images)  # type: ignore[no-any-return]  # a module may return anything

    def scored(self, images: Tensor) -> Tensor:
        """Logits (B, K) in float32 by which a network is judged.

        What overflows half precision, whose largest number is 65,504, is computed anew in float32: there it is finite
        unless the network is broken.
        """
        logits: Tensor = self(images).float()
        if self.config.precision == "16-mixed" and not logits.isfinite().all():
            with torch.autocast(self.device.type, enabled=False):
                logits = self(images)
        return logits

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD whose rate `on_train_batch_start` sets."""
        groups = parameter_groups(self.model, self.config.weight_decay)
        momentum = self.config.momentum
        # lightning cannot unscale fp16 gradients for a fused optimiser before its hook sees them
        fused = self.device.type in ("cpu", "cuda") and self.config.precision != "16-mixed"
        optimizer = torch.optim.SGD(
            groups,
            lr=self.config.learning_rate,
            momentum=momentum,
            nesterov=momentum > 0,
            fused=fused,
            foreach=not fused,
        )
        if self._optimizer_state is not None:
            optimizer.load_state_dict(self._optimizer_state)
        return optimizer

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate of this step."""
        scheduled = learning_rate(self.step, steps_per_epoch=self.steps_per_epoch, config=self.config)
        self.rate = scheduled * self.rate_factor
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.rate

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross entropy of one batch; labels are classes (B,), or probabilities (B, K) of mixed images."""
        images, labels = batch
        loss = F.cross_entropy(self(images).float(), labels, label_smoothing=self.config.label_smoothing)
        self._loss = loss.detach()
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Remember loss and gradient norm of this step, and clip the gradients where that is asked for."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self.config.clip_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(self.parameters(), self.config.clip_grad_norm, norm)
        self._steps.append((self._loss, norm))
        self.step += 1

    def drain_steps(self) -> list[tuple[float, float]]:
        """(loss, gradient norm) of the steps since the last call: one transfer from the device."""
        if not self._steps:
            return []
        values = torch.stack([torch.stack((loss, norm.to(loss.dtype))) for loss, norm in self._steps]).tolist()
        self._steps.clear()
        return [(loss, norm) for loss, norm in values]

    @property
    def pending_steps(self) -> int:
        """Steps that `drain_steps` would give."""
        return len(self._steps)

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation."""
        self.val_loss_sum = torch.zeros((), device=self.device)
        self.val_top5 = torch.zeros((), device=self.device, dtype=torch.int64)
        self.val_counts = torch.zeros((), device=self.device, dtype=torch.int64)
        self._val_seen = 0

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add one batch to the sums."""
        images, labels = batch
        logits = self.scored(images)
        self.val_loss_sum += F.cross_entropy(logits, labels, reduction="sum")
        K = logits.shape[1]
        self.val_top5 += (logits.topk(min(5, K)).indices == labels[:, None]).sum()
        predicted = logits.argmax(1)
        # No bincount and no mask as an index: both would wait for a GPU.
        one = torch.ones_like(labels)
        counted = ((labels, one), (predicted, one), (labels, (labels == predicted).long()))
        self.val_counts = self.val_counts + torch.stack(
            [one.new_zeros(K).scatter_add_(0, classes, weights) for classes, weights in counted]
        )
        self._val_seen += len(labels)

    @property
    def val_class_counts(self) -> list[int]:
        """Images of each class in the last validation."""
        return self.val_counts[0].tolist()

    def validation_result(self) -> dict[str, float]:
        """The last validation, by the names that `EpochRecord` has for it."""
        num_labels, num_predicted, num_agreed = self.val_counts.cpu().double()  # Apple's GPUs have no float64
        occurs, counted = num_labels > 0, num_labels + num_predicted > 0
        f1 = 2 * num_agreed[counted] / (num_labels + num_predicted)[counted]
        return {
            "val_loss": self.val_loss_sum.item() / self._val_seen,
            "val_accuracy": num_agreed.sum().item() / self._val_seen,
            "val_top5": self.val_top5.item() / self._val_seen,
            "val_macro_f1": f1.mean().item(),
            "val_balanced_accuracy": (num_agreed[occurs] / num_labels[occurs]).mean().item(),
        }
