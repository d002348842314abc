#!/usr/bin/env bash
# Resolves the lock again. uv resolves, plain pip installs: pip cannot leave a package out, uv can.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v uv >/dev/null || { echo "lock: uv is not on PATH (pip install uv==0.13.8)" >&2; exit 1; }
common=(--no-config --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes --no-emit-find-links
  --custom-compile-command "make lock" --quiet
  -c deploy/envs/constraints.in)
services=(registry ingestion synthesis curation training evaluation gateway cli)

# Everything, with the CPU builds of torch and vLLM. uv reads none of pip's configuration.
links=$(pip config get global.find-links 2>/dev/null || true)
if [ -n "$links" ]; then export UV_FIND_LINKS=$links; else index=(--index https://download.pytorch.org/whl/cpu); fi
uv pip compile pyproject.toml deploy/envs/cpu.in --group dev "${services[@]/#/--extra=}" \
  --excludes deploy/envs/cpu-excludes.txt "${common[@]}" ${index[@]+"${index[@]}"} -o deploy/envs/cpu-dev.txt
