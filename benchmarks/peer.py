"""What a careful user writes today without this package: Optuna, Lightning and timm in one script.

    python benchmarks/peer.py --trials 24 --epochs 5 --storage sqlite:///peer.db

One process with the libraries' own defaults for threads: TPE, a median pruner fed by Lightning's validation, a timm
ResNet whose ``attn_layer`` and its width are searched together with the learning rate. Everything that Lightning does
and a search does not need is switched off. The digits and their division are those of ``data: {source: digits}``;
``--images FILE.npz`` takes other images.
"""

import argparse
import logging
from functools import partial
from typing import Any

import lightning as L
import numpy as np
import optuna
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from timm.layers import get_attn
from timm.models.resnet import BasicBlock, ResNet
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

ATTENTION = {"none": (None, False), "se": ("se", True), "eca": ("eca", False), "cbam": ("cbam", True)}
"""timm's name of each choice, and whether it takes a reduction."""


def digits() -> dict[str, np.ndarray]:
    """60 % of the digits to train, 20 % to validate."""
    found = load_digits()
    rest, _ = train_test_split(range(len(found.target)), test_size=0.2, stratify=found.target, random_state=0)
    train, val = train_test_split(rest, test_size=0.25, stratify=found.target[rest], random_state=0)
    return {
        f"{name}_{part}": of[rows]
        for part, rows in (("train", train), ("val", val))
        for name, of in (("images", found.images[:, None]), ("labels", found.target))
    }


def make_loaders(arrays: dict[str, np.ndarray], batch_size: int) -> tuple[DataLoader, DataLoader]:
    """Loaders of images (N, C, H, W), standardised by those that are trained on, and labels (N,)."""
    tensors = {name: torch.tensor(np.asarray(values)) for name, values in arrays.items()}
    known = tensors["images_train"].float()
    mean, std = (statistic((0, 2, 3), keepdim=True) for statistic in (known.mean, known.std))
    parts = [
        TensorDataset((tensors[f"images_{part}"].float() - mean) / std, tensors[f"labels_{part}"])
        for part in ("train", "val")
    ]
    return DataLoader(parts[0], batch_size=batch_size, shuffle=True), DataLoader(parts[1], batch_size=256)


def make_network(attention: str, reduction: int | None, in_chans: int) -> ResNet:
    """A micro ResNet for small images: one block a stage, widths 16, 32, 64 and 128, a 3×3 stem without pooling."""
    layer = partial(get_attn(attention), rd_ratio=1 / reduction) if reduction else ATTENTION[attention][0]
    network = ResNet(
        BasicBlock,
        layers=(1, 1, 1, 1),
        channels=(16, 32, 64, 128),
        num_classes=10,
        in_chans=in_chans,
        zero_init_last=False,
        block_args={"attn_layer": layer},
    )
    network.conv1, network.bn1 = nn.Conv2d(in_chans, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
    network.maxpool = nn.Identity()
    network.layer1 = nn.Sequential(BasicBlock(16, 16, attn_layer=layer))  # timm's stems have 64 channels
    return network


class Classifier(L.LightningModule):
    """Trains a network with SGD and a cosine schedule."""

    def __init__(self, network: nn.Module, learning_rate: float) -> None:
        super().__init__()
        self.network, self.learning_rate = network, learning_rate

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        images, labels = batch
        return F.cross_entropy(self.network(images), labels)

    def validation_step(self, batch: list[torch.Tensor], _: int) -> None:
        images, labels = batch
        accuracy = (self.network(images).argmax(1) == labels).float().mean()
        self.log("val_accuracy", accuracy, batch_size=len(labels))

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.SGD(
            self.parameters(), lr=self.learning_rate, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        total = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def train(
    params: dict[str, Any],
    loaders: tuple[DataLoader, DataLoader],
    *callbacks: L.Callback,
    seed: int,
    epochs: int,
    accelerator: str = "cpu",
) -> float:
    """Validation accuracy of a network."""
    L.seed_everything(seed, verbose=False)
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator=accelerator,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
    )
    in_chans = loaders[0].dataset[0][0].shape[0]
    network = make_network(params["attention"], params.get("reduction"), in_chans)
    trainer.fit(Classifier(network, params["learning_rate"]), *loaders)
    return trainer.callback_metrics["val_accuracy"].item()


class PruningCallback(L.Callback):
    """What optuna-integration's callback of this name does."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial

    def on_validation_end(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        self.trial.report(trainer.callback_metrics["val_accuracy"].item(), trainer.current_epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def main() -> None:
    """Search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--storage", default="sqlite:///peer.db")
    parser.add_argument("--accelerator", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--images", help="an .npz file with images_train, labels_train, images_val and labels_val")
    args = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    loaders = make_loaders(dict(np.load(args.images)) if args.images else digits(), 64)

    def objective(trial: optuna.Trial) -> float:
        attention = trial.suggest_categorical("attention", list(ATTENTION))
        if ATTENTION[attention][1]:
            trial.suggest_categorical("reduction", [4, 8, 16])
        trial.suggest_float("learning_rate", 0.01, 0.3, log=True)
        return train(
            trial.params,
            loaders,
            PruningCallback(trial),
            seed=args.seed,
            epochs=args.epochs,
            accelerator=args.accelerator,
        )

    study = optuna.create_study(
        study_name="peer",
        storage=args.storage,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=args.seed),
        pruner=optuna.pruners.MedianPruner(),
    )
    study.optimize(objective, n_trials=args.trials)
    print(f"best: {study.best_value:.4f} with {study.best_params}")


if __name__ == "__main__":
    main()
