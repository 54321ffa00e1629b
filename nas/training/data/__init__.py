"""Images for a search: opened once (`open_data`) for many runs, or only described.

Every source is divided into train, val and test. Training and validation loaders never hold an image
of the test part, which only `DataSource.test_batches` reads.

What opens a source is imported when one is opened: the processes that only decode images need no torch.
"""

from typing import TYPE_CHECKING

from nas.training.config import DataConfig
from nas.training.data.progress import Tell, tell_error

if TYPE_CHECKING:
    from nas.training.data.source import DataSource
    from nas.training.summary import DataSummary


def open_data(config: DataConfig, tell: Tell = tell_error) -> "DataSource":
    """Open a data set for any number of runs in this process.

    Image files are decoded once to see that they can be read; a `DataError` names those that cannot.

    Args:
        tell: hears how far that is, where it takes long.
    """
    from nas.training.data.by_function import open_by_function
    from nas.training.data.cluttered import open_cluttered
    from nas.training.data.cued import open_cued
    from nas.training.data.digits import open_digits
    from nas.training.data.fashion import open_fashion
    from nas.training.data.folder_data import open_folder
    from nas.training.data.images import open_images
    from nas.training.data.noisy import open_noisy
    from nas.training.data.torch_sets import NUM_TEST, open_torch_arrays

    read_here = {
        "digits": open_digits,
        "noisy-digits": open_noisy,
        "cluttered-digits": open_cluttered,
        "cued-digits": open_cued,
        "fashion-mnist": open_fashion,
        "python": open_by_function,
    }
    if config.reading > 1 and config.kind == "folder":
        return open_folder(config, tell)
    if config.reading > 1 and config.kind.lower() in NUM_TEST:
        return open_torch_arrays(config)
    return read_here.get(config.kind, open_images)(config)


def describe(config: DataConfig) -> "DataSummary":
    """Classes, sizes and fingerprint of a data set that was found to be readable."""
    return open_data(config).summary


__all__ = ["describe", "open_data"]
