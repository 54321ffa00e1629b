"""What only a CUDA device can show: run wherever there is one, skipped elsewhere.

pytest -m gpu
"""

import pytest
import torch

on_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and this machine has none"),
]
