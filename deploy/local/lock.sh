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
# What the tests only read: their own entries behind the others, without any dependency.
read_only=$(mktemp)
uv pip compile deploy/envs/templates.in "${common[@]}" --no-deps --no-header -o "$read_only"
cat "$read_only" >> deploy/envs/cpu-dev.txt
rm "$read_only"

# only KEPT LOCK: the entries of a lock whose packages the whole lock does not have, besides those that KEPT matches.
only() {
  awk -v kept="$1" '/^[^ #]/ { split($0, entry, "=="); known = NR != FNR && entry[1] in names && entry[1] !~ kept
    if (NR == FNR) names[entry[1]] } NR != FNR && /^[^#]/ && !known' deploy/envs/cpu-dev.txt "$2"
}
# lock NAME ARGUMENT...: one image's lock. uv keeps the versions that it finds in its output, so it begins with those of
# the whole lock, and its own of what only a GPU needs: every image has what the tests had.
lock() {
  local out=deploy/envs/$1.txt own
  shift
  own=$(if [ -e "$out" ]; then only '^$' "$out"; fi)
  { cat deploy/envs/cpu-dev.txt; echo "$own"; } > "$out"
  uv pip compile "$@" "${common[@]}" -o "$out"
  echo "lock: $out has $(grep -c == "$out") packages"
}
for service in registry ingestion synthesis curation evaluation gateway; do
  lock "$service" pyproject.toml --extra "$service"
done
lock training-cpu pyproject.toml --extra training "${cpu[@]}"
lock serving-cpu pyproject.toml deploy/envs/cpu.in --extra serving "${cpu[@]}"
lock standalone pyproject.toml deploy/envs/cpu.in "${services[@]/#/--extra=}" "${cpu[@]}"
lock build deploy/envs/build.in
lock test-s3 deploy/envs/test-s3.in
# PyPI's own torch and vLLM are the CUDA builds.
unset UV_FIND_LINKS
for service in training serving; do
  lock "$service-cuda" pyproject.toml --extra "$service"
done

# Where only PyPI can be reached: its build of the same torch, with what it loads when it is imported and without what
# only a GPU uses. These entries take the place of the CPU build's in every other lock.
lock cpu-pypi deploy/envs/cpu-pypi.in --excludes deploy/envs/cpu-pypi-excludes.txt
pypi=$(head -n 2 deploy/envs/cpu-pypi.txt; only '^torch$' deploy/envs/cpu-pypi.txt)
echo "$pypi" > deploy/envs/cpu-pypi.txt
