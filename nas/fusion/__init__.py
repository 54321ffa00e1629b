"""Attention fused into timm's ResNets: masks, blocks, models, cost. Importing it registers the models."""

from nas.fusion.cost import count_macs, count_params
from nas.fusion.models import FusionResNet, build_model, model_args

__all__ = ["FusionResNet", "build_model", "count_macs", "count_params", "model_args"]
