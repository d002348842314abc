#!/usr/bin/env bash
# Resolves the locks again. uv resolves, plain pip installs: pip cannot leave a package out, uv can.
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
cpu=(--excludes deploy/envs/cpu-excludes.txt ${index[@]+"${index[@]}"})
uv pip compile pyproject.toml deploy/envs/cpu.in --group dev "${services[@]/#/--extra=}" \
  "${common[@]}" "${cpu[@]}" -o deploy/envs/cpu-dev.txt

# lock NAME ARGUMENT...: one image's lock. It begins as a copy of the whole one, because uv keeps the versions that it
# finds in its output: every image has what the tests had, except for what only a GPU needs.
lock() {
  local out=deploy/envs/$1.txt
  shift
  cp deploy/envs/cpu-dev.txt "$out"
  uv pip compile "$@" "${common[@]}" -o "$out"
  echo "lock: $out has $(grep -c == "$out") packages"
}
for service in registry ingestion synthesis curation evaluation gateway; do
  lock "$service" pyproject.toml --extra "$service"
done
lock training-cpu pyproject.toml --extra training "${cpu[@]}"
lock serving-cpu pyproject.toml deploy/envs/cpu.in "${cpu[@]}"
lock standalone pyproject.toml deploy/envs/cpu.in "${services[@]/#/--extra=}" "${cpu[@]}"
lock build deploy/envs/build.in
lock test-s3 deploy/envs/test-s3.in
# PyPI's own torch and vLLM are the CUDA builds.
unset UV_FIND_LINKS
for service in training serving; do
  lock "$service-cuda" pyproject.toml --extra "$service"
done
