"""What may be wrong with a model file."""

from __future__ import annotations

from hybrid_router.core.errors import BackendUnavailable


class ModelFileError(BackendUnavailable):
    """A model cannot be loaded because of its file or its manifest entry.

    `message` names the model and what to do; paths of this machine and digests are in `detail`.
    Another step may try: for the caller this is a backend that is not there.
    """


class FileMissing(ModelFileError):
    """The file is not where the manifest says."""


class FileChanged(ModelFileError):
    """The file is there, but it is not the one that the manifest names."""
