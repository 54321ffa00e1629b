"""Images for a search: opened once (`open_data`) for many runs, or only described.

Every source is divided into train, val and test. Training and validation loaders never hold an image
of the test part, which only `DataSource.test_batches` reads.
"""

from nas.training.config import DataConfig
from nas.training.data.cluttered import open_cluttered
from nas.training.data.cued import open_cued
from nas.training.data.digits import open_digits
from nas.training.data.fashion import open_fashion
from nas.training.data.images import open_images
from nas.training.data.noisy import open_noisy
from nas.training.data.source import DataSource
from nas.training.data.torch_sets import NUM_TEST, open_torch_arrays
from nas.training.summary import DataSummary

READ_HERE = {
    "digits": open_digits,
    "noisy-digits": open_noisy,
    "cluttered-digits": open_cluttered,
    "cued-digits": open_cued,
    "fashion-mnist": open_fashion,
}

IN_MEMORY = frozenset(NUM_TEST)
"""Data sets of torchvision whose images need no decoding."""


def open_data(config: DataConfig) -> DataSource:
    """Open a data set for any number of runs in this process.

    Image files are decoded once to see that they can be read; a `DataError` names the first that cannot.
    """
    if config.kind.lower() in IN_MEMORY:
        return open_torch_arrays(config)
    return READ_HERE.get(config.kind, open_images)(config)


def describe(config: DataConfig) -> DataSummary:
    """Classes, sizes and fingerprint of a data set that was found to be readable."""
    return open_data(config).summary


__all__ = ["IN_MEMORY", "DataSource", "DataSummary", "describe", "open_data"]
