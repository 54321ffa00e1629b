"""The model card of an exported folder: a page of Markdown from the values of its provenance."""

from collections.abc import Mapping, Sequence
from typing import Any

from nas.architecture import Architecture
from nas.statistics import p_text

_CARD = """\
---
tags:
- image-classification
- timm
- fusion-nas
library_name: timm
---
# {title}

{backbone} with attention fused into its stages, found by fusion-nas (study `{study}`, trial {trial}).

| stage | fusion |
|---|---|
{stages}

| | this network | the plain network |
|---|---|---|
| validation accuracy | {score} | {plain} |
| 95 % interval over images | {interval} | {plain_interval} |

Measured on {num_val} validation images after {epochs} epochs with one seed. The intervals tell how far chance in the
choice of those images goes, not the spread over seeds; and the best of many trials looks better than it is. These
images chose the network, so that none of this is a test score.
{tested}
## Load

```python
import nas, timm  # importing nas registers the architecture with timm

model = timm.create_model("local-dir:PATH/OF/THIS/FOLDER", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
```

`python -m nas.export.verify PATH/OF/THIS/FOLDER` tells whether the folder is whole. Mean and standard deviation are of
pixels / 255, with the pixels as the data source stores them.

## Provenance

| | |
|---|---|
{facts}
"""

_TESTED = """
## Test

`nas confirm` trained this network and the plain one again with {num_seeds} seeds that no search had used, and tested
them once on {num_test} images that no search had seen.

| | this network | the plain network |
|---|---|---|
| mean test accuracy | {score} | {plain} |
| 95 % interval over seeds | {interval} | {plain_interval} |

{difference} The weights in this folder are of the first of these seeds, which was not chosen by what it gave: their
test accuracy is {weights}.
"""


def model_card(architecture: Architecture, provenance: Mapping[str, Any], preprocessing: Mapping[str, Any]) -> str:
    """The card of one network."""
    facts = {
        "architecture digest": architecture.digest,
        "parameters": provenance["num_params"],
        "multiply-accumulates": provenance["macs"],
        "input (C, H, W)": tuple(preprocessing["input_size"]),
        "classes": architecture.num_classes,
        "search space": "{name} ({digest})".format(**provenance["space"]),
        "seed of sampling and training": provenance["seed"],
        "seed of the division of the data": provenance["split_seed"],
        "data": provenance["data"],
        "data fingerprint": provenance["data_fingerprint"],
        **{f"version of {name}": version for name, version in provenance["packages"].items() if version},
    }
    name = architecture.backbone.name
    return _CARD.format(
        title=f"fusion_{name} {architecture.digest}",
        backbone=name,
        study=provenance["study"],
        trial=provenance["trial"],
        stages=_rows((i, stage) for i, stage in enumerate(architecture.canonical().stages, start=1)),
        score=_accuracy(provenance["val_accuracy"]),
        plain=_accuracy(provenance["val_accuracy_of_plain"]),
        interval=_interval(provenance["val_accuracy_interval"]),
        plain_interval=_interval(provenance["val_accuracy_interval_of_plain"]),
        num_val=provenance["num_val"],
        epochs=provenance["epochs"],
        facts=_rows(facts.items()),
        tested=_tested(provenance["test"]) if "test" in provenance else "",
    )


def _tested(test: Mapping[str, Any]) -> str:
    above = test["above_plain"]
    difference = "The difference was not measured."
    if above is not None:
        low, high = above["interval"]
        difference = (
            f"This network has {above['value']:+.4f} above the plain one, paired by seed, with a simultaneous 95 % "
            f"interval from {low:+.4f} to {high:+.4f} (p = {p_text(above['p_adjusted'])} after correction)."
        )
    return _TESTED.format(
        num_seeds=len(test["seeds"]),
        num_test=test["num_test"],
        score=_accuracy(test["accuracy"]),
        plain=_accuracy(test["accuracy_of_plain"]),
        interval=_interval(test["interval"]),
        plain_interval=_interval(test["interval_of_plain"]),
        difference=difference,
        weights=_accuracy(test["accuracy_of_these_weights"]),
    )


def _rows(pairs: Any) -> str:
    return "\n".join(f"| {key} | {value} |" for key, value in pairs)


def _accuracy(score: float | None) -> str:
    return "not measured" if score is None else f"{score:.4f}"


def _interval(bounds: Sequence[float] | None) -> str:
    return "not measured" if bounds is None else f"{bounds[0]:.4f} to {bounds[1]:.4f}"
