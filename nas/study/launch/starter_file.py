"""A study file for a folder of images: what fits the images, the machine and an hour or two."""

import json
import math
import shlex
from dataclasses import dataclass
from typing import Any

from nas.architecture import Architecture, Backbone
from nas.study.config import StudyConfig
from nas.training.data import open_data
from nas.training.data.survey import Survey
from nas.training.pace import Pace, measure_pace

TARGET_S = 3600.0
"""Time that the suggested search should take where the images allow it."""
TRIALS = (24, 100)
"""Fewest and most trials."""
STEPS = 300
"""Optimiser steps that a brief training needs at least."""
EPOCHS = (5, 30)
FUSION_FACTOR = 1.25
"""Time of a fused network over that of the plain one, on average over patterns."""
CPU_SIDE, GPU_SIDE = 64, 224
SMALL_SIDE = 64
"""Up to this side the stem keeps the resolution."""
MAX_CPU_WORKERS = 8
MIN_CLASS = 20
MIN_VAL = 200
MAX_LISTED = 20


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A study for a folder, and what it is based on."""

    survey: Survey
    pace: Pace
    config: StudyConfig
    seconds: float
    """Estimated time of the search, without what stopping hopeless trials early saves."""


def suggest(survey: Survey, *, name: str, device: str, num_cpus: int) -> Suggestion:
    """Choose size, network and budget, and measure the pace with which they would be trained."""
    gpu = device != "cpu"
    workers = 1 if gpu else min(num_cpus, MAX_CPU_WORKERS)
    side = _image_size(survey, GPU_SIDE if gpu else CPU_SIDE)
    num_train = survey.summary.num_train
    batch_size = 64 if num_train >= 64 * 8 else 32 if num_train >= 32 * 4 else 16
    steps = math.ceil(num_train / batch_size)
    content: dict[str, Any] = {
        "schema": 1,
        "name": name,
        "backbone": _backbone(side, gpu).model_dump(),
        "data": {
            "source": f"folder:{survey.root}",
            "image_size": side,
            "in_chans": survey.in_chans,
            "augment": {"flip": 0.5},
            "workers": min(4, max(0, num_cpus - 1)) if gpu else 0,
        },
        "training": {"epochs": max(EPOCHS[0], min(EPOCHS[1], math.ceil(STEPS / steps))), "batch_size": batch_size},
        "workers": workers,
    }
    config = StudyConfig.parse(content, "nas init")
    pace = _pace(config, survey, device, max(1, num_cpus // workers))
    config, seconds = fit_budget(config, survey, pace)
    return Suggestion(survey=survey, pace=pace, config=config, seconds=seconds)


def _image_size(survey: Survey, largest: int) -> int:
    """The median shorter side, up to the next multiple of 8, within what the device can train on."""
    return max(16, min(largest, math.ceil(survey.shorter_sides[1] / 8) * 8))


def _backbone(side: int, gpu: bool) -> Backbone:
    if not gpu:
        return Backbone(name="resnet_micro", stem="small")
    return Backbone(name="resnet18", stem="small" if side <= SMALL_SIDE else "imagenet")


def _pace(config: StudyConfig, survey: Survey, device: str, threads: int) -> Pace:
    plain = Architecture.plain(config.backbone, num_classes=survey.summary.num_classes, in_chans=survey.in_chans)
    data = open_data(config.data)
    return measure_pace(plain, data, config.training.model_copy(update={"device": device}), threads=threads)


def trial_s(config: StudyConfig, survey: Survey, pace: Pace) -> float:
    """Seconds that one full trial takes one worker."""
    num_train = config.data.num_train or survey.summary.num_train
    epoch_s = num_train / pace.train + survey.summary.num_val / pace.val
    return FUSION_FACTOR * config.training.epochs * epoch_s


def fit_budget(config: StudyConfig, survey: Survey, pace: Pace) -> tuple[StudyConfig, float]:
    """As many trials as fit the target time; where even the fewest do not, fewer training images."""
    fewest, most = TRIALS
    in_time = TARGET_S * config.workers / trial_s(config, survey, pace)
    if in_time < fewest:
        wanted = round(survey.summary.num_train * in_time / fewest)
        least = MIN_CLASS * survey.summary.num_classes
        num_train = max(wanted, least)
        if num_train < survey.summary.num_train:
            config = config.model_copy(update={"data": config.data.model_copy(update={"num_train": num_train})})
    trials = max(fewest, min(most, int(in_time)))
    config = config.model_copy(update={"trials": trials})
    rounds = math.ceil(trials / config.workers)
    return config, rounds * trial_s(config, survey, pace)


def study_text(suggestion: Suggestion, path: str) -> str:
    """The study file, with what was found and why it is as it is in comments."""
    survey, config = suggestion.survey, suggestion.config
    head = [
        "A study of the images in a folder, as nas init suggests it. Everything can be changed before the first run:",
        f"  {shlex.join(['nas', 'search', path])}",
        "",
        *(*_found(survey), *_classes(survey), *_warnings(survey)),
        "",
        *_time(suggestion),
    ]
    lines = [f"# {line}".rstrip() for line in head]
    lines += [f"{text:<34}  # {why}" if why else text for text, why in _keys(config, survey, suggestion.pace.device)]
    return "\n".join(lines) + "\n"


def _keys(config: StudyConfig, survey: Survey, device: str) -> list[tuple[str, str]]:
    """The lines of the file, each with its reason."""
    data, training = config.data, config.training
    smallest, median, largest = survey.shorter_sides
    subset = f"of {survey.summary.num_train:,}: more would make the search too long"
    return [
        ("schema: 1", ""),
        (f"name: {_quoted(config.name)}", ""),
        ("space: full", "what is searched; others: nas spaces"),
        ("backbone:", ""),
        (f"  name: {config.backbone.name}", f"small enough for brief training on {device}; any timm ResNet"),
        (f"  stem: {config.backbone.stem}", "small keeps the resolution of small images, imagenet divides it by 4"),
        ("data:", ""),
        (f"  source: {_quoted(data.source)}", ""),
        (f"  image_size: {data.image_size}", f"pixels; shorter sides are {smallest} to {largest}, median {median}"),
        (f"  in_chans: {data.in_chans}", "the images are grey" if data.in_chans == 1 else "colour"),
        (f"  augment: {{flip: {data.augment.flip:g}}}", "left-right flips; 0 where left and right differ, as in text"),
        (f"  workers: {data.workers}", "processes that decode images, for each worker"),
        *([(f"  num_train: {data.num_train}", subset)] if data.num_train is not None else []),
        ("training:", ""),
        (f"  epochs: {training.epochs}", "enough to rank networks, not to finish them"),
        (f"  batch_size: {training.batch_size}", ""),
        ("pruner: {name: median}", "stops what is hopeless; the guard stops what breaks"),
        (f"trials: {config.trials}", "the six landmarks included"),
        (f"workers: {config.workers}", "one for each CPU core" if device == "cpu" else "one on the whole device"),
        ("seed: 0", ""),
    ]


def _found(survey: Survey) -> list[str]:
    summary = survey.summary
    how = "as the folder is divided" if survey.divided else "divided here, always in the same way"
    kinds = "grey" if survey.in_chans == 1 else "colour"
    return [
        f"Found: {survey.num_images:,} {kinds} images of {summary.num_classes} classes, {how}:",
        f"{summary.num_train:,} to train, {summary.num_val:,} to validate, {summary.num_test:,} that no search sees.",
    ]


def _classes(survey: Survey) -> list[str]:
    """Training images of each class, the most frequent of many."""
    summary = survey.summary
    counts = sorted(zip(summary.class_counts, summary.class_names, strict=True), key=lambda c: (-c[0], c[1]))
    rows = [f"  {count:>7,}  {' '.join(name.split())}" for count, name in counts[:MAX_LISTED]]
    if len(counts) > MAX_LISTED:
        rows.append(f"  and {len(counts) - MAX_LISTED} more classes, the smallest with {counts[-1][0]:,}")
    return ["Training images of each class:", *rows]


def _warnings(survey: Survey) -> list[str]:
    """What a reader should know before trusting a score."""
    summary = survey.summary
    found = [
        (
            survey.imbalance >= 2,  # noqa: PLR2004
            f"the largest class has {survey.imbalance:.1f} times the images of the smallest; always guessing it "
            f"scores {survey.majority_share:.3f}",
        ),
        (min(summary.class_counts) < MIN_CLASS, f"a class has only {min(summary.class_counts)} training images"),
        (
            summary.num_val < MIN_VAL,
            f"with {summary.num_val} validation images a score is uncertain by up to "
            f"{100 * 0.98 / max(1, summary.num_val) ** 0.5:.0f} points",
        ),
        (survey.num_deep > 0, f"16 bits a channel are read as 8 (images: {survey.num_deep})"),
        (survey.num_cmyk > 0, f"CMYK is read as RGB (images: {survey.num_cmyk})"),
    ]
    return [f"Careful: {text}." for holds, text in found if holds]


def _time(suggestion: Suggestion) -> list[str]:
    pace, config = suggestion.pace, suggestion.config
    return [
        f"Time: about {_duration(suggestion.seconds)} for {config.trials} trials with {config.workers} "
        f"worker{'s' if config.workers > 1 else ''}, less where trials are stopped early.",
        f"Measured with the plain network: {pace.train:,.0f} images/s in training, {pace.val:,.0f} in validation.",
    ]


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{max(1, round(minutes))} min" if minutes < 90 else f"{minutes / 60:.1f} h"  # noqa: PLR2004


def _quoted(text: str) -> str:
    """A YAML string in double quotes, whatever the text holds."""
    return json.dumps(text, ensure_ascii=True)
