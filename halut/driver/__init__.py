"""Drivers of `halut_axi`: a class in Python, and the same calls in C (``halut_driver.c``)."""

from .device import Device, DeviceError
from .mapped import MappedMemory, MappedRegisters

__all__ = ["Device", "DeviceError", "MappedMemory", "MappedRegisters"]
