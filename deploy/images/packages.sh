#!/bin/sh
# Runs while images are built: installs the Debian packages that the base does not bring.
set -eu
missing=""
for name; do
  if [ "$name" = python-headers ]; then
    headers=$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')
    [ -e "$headers/Python.h" ] && continue
    name=python3-dev
  fi
  dpkg-query --show --showformat '${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing="$missing $name"
done
[ -n "$missing" ] || exit 0
export DEBIAN_FRONTEND=noninteractive
set --
[ -s /apt/sources.list ] && set -- -o Dir::Etc::SourceList=/apt/sources.list -o Dir::Etc::SourceParts=-
apt-get "$@" update --quiet
# shellcheck disable=SC2086
apt-get "$@" install --yes --quiet --no-install-recommends $missing
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/ldconfig/aux-cache /var/log/*
