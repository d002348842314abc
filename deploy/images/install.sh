#!/bin/sh
# Runs while images are built: installs what builds, a lock, or the code.
set -eu
pip="/opt/build/bin/python -m pip"

# Where packages come from: the folder of wheels, when there is one; else the index that pip is configured for.
from=""
if [ -n "$(ls /wheels 2>/dev/null)" ]; then from="--no-index --find-links /wheels"; fi

compile() { # compile FOLDER BECOMES: quiet, because packages bring templates and Python 2 that were never meant to compile
  /opt/build/bin/python -m compileall -f -qq --invalidation-mode unchecked-hash -s "$1" -p "$2" "$1" || true
}

finds() { # finds LOCK OPTION...: whether pip finds the torch of a lock
  awk '/^[^ ]/ { torch = /^torch==/ } torch' "$1" > /build/torch.txt
  shift
  # shellcheck disable=SC2086
  $pip install --quiet --dry-run --ignore-installed --no-deps --require-hashes --retries 1 --timeout 15 $from "$@" \
    -r /build/torch.txt >/build/torch.log 2>&1
}

# choose_torch LOCK [PYPI]: PyPI does not carry torch's CPU build. It comes from where pip is configured to look, or from
# PyTorch's index; else the entries of PYPI, PyPI's build of the same version, take its place. Sets `from` and `lock`.
choose_torch() {
  index=https://download.pytorch.org/whl/cpu
  lock=$1
  if [ -z "${2:-}" ] || finds "$1"; then return; fi
  case $from in *--no-index*) ;; *) if finds "$1" --extra-index-url $index; then from="--extra-index-url $index"; return; fi ;; esac
  awk '/^[^ ]/ { torch = /^torch==/ } !torch' "$1" | cat - "$2" > /build/lock.txt
  lock=/build/lock.txt
  echo "install.sh: torch's CPU build cannot be found; PyPI's build, 2.9 GB larger, takes its place"
}

case $1 in
tools)
  python3 -m venv /opt/build
  # shellcheck disable=SC2086
  /opt/build/bin/python -m pip install --require-hashes --no-deps $from -r "$2"
  ;;
lock)
  choose_torch "$2" "${3:-}"
  # The hashes are checked here. What has no wheel is built, with the tools of the lock of tools.
  # shellcheck disable=SC2086
  $pip wheel --quiet --require-hashes --no-deps --no-build-isolation $from --wheel-dir /built -r "$lock"
  python3 -m venv --without-pip /opt/anneal
  # From names, so that no package records the folder it came from.
  sed -n 's/^\([A-Za-z0-9][^ ]*==[^ ]*\).*/\1/p' "$lock" > /built/names.txt
  $pip --python /opt/anneal/bin/python install --quiet --no-compile --no-deps --no-index \
    --find-links /built -r /built/names.txt
  rm -r /built
  # The packages' own tests: nothing imports them, and they are a tenth of some images.
  find /opt/anneal/lib -path '*.dist-info' -prune -o -type d \( -name tests -o -name test \) -prune -exec rm -r {} +
  compile /opt/anneal/lib/python3.11 /opt/anneal/lib/python3.11
  ;;
code)
  $pip wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir /built "$2"
  $pip install --quiet --no-compile --no-deps --no-index --find-links /built --target /code anneal
  # The command, for the images that have what it imports; pip wrote the Python of this stage into it.
  mkdir /scripts
  sed '1s|.*|#!/opt/anneal/bin/python|' /code/bin/anneal > /scripts/anneal
  chmod 0755 /scripts/anneal
  rm -r /built /code/bin
  compile /code /opt/anneal/lib/python3.11/site-packages
  ;;
*)
  echo "install.sh: tools LOCK, lock LOCK [PYPI] or code FOLDER" >&2
  exit 2
  ;;
esac
