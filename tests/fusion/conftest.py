import pytest
import torch


@pytest.fixture(autouse=True)
def _small_and_repeatable():
    """One thread, which is fastest for tiny tensors, and a fixed start of torch's generator."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
