"""Pretrained models of other architectures, as models of this one."""

from .converting import convert
from .folder import convert_folder
from .report import ConversionReport

__all__ = ["ConversionReport", "convert", "convert_folder"]
