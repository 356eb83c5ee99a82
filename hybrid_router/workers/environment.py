"""The variables that a child sees.  Nothing else of the router's own environment reaches it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType

from hybrid_router.engines.settings import Settings

# What inference libraries read; never a token.  Prefixes end in an underscore.
_ALLOWED = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
_ALLOWED_PREFIXES = ("GGML_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "OMP_")
# Whoever looks for a home finds one that holds nothing, instead of the user's; and model hubs are not asked,
# also where the kernel would let them be.
_FIXED: Mapping[str, str] = MappingProxyType(
    {
        "HOME": "/nonexistent",
        "USER": "nobody",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "DO_NOT_TRACK": "1",
        "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime has one, on Linux too
        "JOBLIB_MULTIPROCESSING": "0",
        # torch wants a cache folder when it is imported, and is content with any that exists: it compiles
        # nothing here.  Left to itself it asks for a temporary folder, and there is none to write in.
        "TORCHINDUCTOR_CACHE_DIR": "/usr",
        "GGML_NO_BACKTRACE": "1",  # it would start a debugger, which may not look at us
    }
)


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that a child is started with."""
    inherited = {
        name: value
        for name, value in environ.items()
        if name in _ALLOWED or name.startswith(_ALLOWED_PREFIXES)
    }
    return {**inherited, **_FIXED}


def prepare(settings: Settings) -> None:
    """Set what libraries read once, when they are loaded: each has thread pools of its own."""
    threads = str(settings.threads)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = threads
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if settings.threads > 1 else "false"
    if not settings.busy_wait:
        # Read by OpenMP when the library is loaded.  Threads that spin for long collapse when they have fewer
        # cores than they think.  Starter model, two threads on two cores, tokens/s alone and beside one
        # busy program: spinning 106 and 0.6, this short spin 100 and 25, no spin at all 40 and 30.
        os.environ["GOMP_SPINCOUNT"] = "1000"
