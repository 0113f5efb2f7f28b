"""Errors of backends that compile. Does not import torch."""


class RecompileError(RuntimeError):
    """A step matched no compiled graph; the message names the guard that failed, in one sentence."""


class DeviceRefusedError(RuntimeError):
    """The device does not support this step; the message names the rule in one sentence."""
