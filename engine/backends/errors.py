"""Errors of backends that compile the model. This file does not import torch."""


class RecompileError(RuntimeError):
    """A step matched no compiled graph. The message is one sentence with the guard of torch.compile that failed."""


class DeviceRefusedError(RuntimeError):
    """The device does not support a step. The message is one sentence that names the violated shape rule."""
