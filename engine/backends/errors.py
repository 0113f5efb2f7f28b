"""What goes wrong on a backend that compiles. No torch in here."""


class RecompileError(RuntimeError):
    """A step did not fit what was compiled: the message names the guard that failed, in a sentence."""


class DeviceRefusedError(RuntimeError):
    """The device would not run this; the message is one sentence that names the rule."""
