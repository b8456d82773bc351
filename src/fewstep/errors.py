"""Every error that a caller may want to catch: what was given, what is allowed, what to do, in one line."""

from __future__ import annotations


class FewstepError(ValueError):
    """The base of all of them; the command line prints it as one line and exits with code 2."""


class ModelNotFound(FewstepError):
    """No such model: neither built in, nor a folder, nor on the hub (or the hub is out of reach)."""


class InvalidModel(FewstepError):
    """The model is there, but it is damaged, unsafe to read, or of a kind that fewstep does not know."""


class InvalidRequest(FewstepError):
    """A prompt, number or picture that cannot be used."""


class InvalidConfig(FewstepError):
    """A training configuration holds a value that cannot work; the message says which and what is allowed."""


class InvalidData(FewstepError):
    """There are no pictures where some were promised, or what describes them cannot be read."""


class NotInstalled(FewstepError):
    """An optional part of fewstep is missing; the message says how to install it."""


class CannotWrite(FewstepError):
    """The place for the result does not exist or refuses to be written."""


class InUse(FewstepError):
    """Another process is at work in the folder; it must end first."""


class FewstepWarning(UserWarning):
    """Something that was asked for has no effect, or was cut short."""
