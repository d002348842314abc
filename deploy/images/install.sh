#!/bin/sh
# Runs while images are built: installs what builds, a lock, or the code.
set -eu
pip="/opt/build/bin/python -m pip"

# Where packages come from: the folder of wheels, when there is one; else pip's index, and PyTorch's for its CPU build.
if [ -n "$(ls /wheels 2>/dev/null)" ]; then
  from="--no-index --find-links /wheels"
else
  from="--extra-index-url https://download.pytorch.org/whl/cpu"
fi

compile() { # compile FOLDER BECOMES: quiet, because packages bring templates and Python 2 that were never meant to compile
  /opt/build/bin/python -m compileall -f -qq --invalidation-mode unchecked-hash -s "$1" -p "$2" "$1" || true
}

case $1 in
tools)
  python3 -m venv /opt/build
  # shellcheck disable=SC2086
  /opt/build/bin/python -m pip install --require-hashes --no-deps $from -r "$2"
  ;;
lock)
  # The hashes are checked here. What has no wheel is built, with the tools of the lock of tools.
  # shellcheck disable=SC2086
  $pip wheel --quiet --require-hashes --no-deps --no-build-isolation $from --wheel-dir /built -r "$2"
  python3 -m venv --without-pip /opt/anneal
  # From names, so that no package records the folder it came from.
  sed -n 's/^\([A-Za-z0-9][^ ]*==[^ ]*\).*/\1/p' "$2" > /built/names.txt
  $pip --python /opt/anneal/bin/python install --quiet --no-compile --no-deps --no-index \
    --find-links /built -r /built/names.txt
  rm -r /built
  compile /opt/anneal/lib/python3.11 /opt/anneal/lib/python3.11
  ;;
code)
  $pip wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir /built "$2"
  $pip install --quiet --no-compile --no-deps --no-index --find-links /built --target /code anneal
  rm -r /built /code/bin
  compile /code /opt/anneal/lib/python3.11/site-packages
  ;;
*)
  echo "install.sh: tools LOCK, lock LOCK or code FOLDER" >&2
  exit 2
  ;;
esac
