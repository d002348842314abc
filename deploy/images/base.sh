#!/usr/bin/env bash
# Makes a base image where no image registry can be reached: Debian 12 by debootstrap, from Debian's own packages.
#   MIRROR, SECURITY_MIRROR  where packages come from; this machine's own by default. The image names Debian's.
#   BASE_IMAGE               its name
set -euo pipefail
cd "$(dirname "$0")/../.."
suite=bookworm
image=${BASE_IMAGE:-localhost/anneal/base:$suite}
# What a slim Python image has, with Debian's Python 3.11; libnuma1 and wget for the images that ask for them.
packages=ca-certificates,libnuma1,netbase,python3,python3-venv,tzdata,wget
stop() { echo "base-image: $1" >&2; exit 1; }

[ "$(id -u)" = 0 ] || stop "debootstrap needs root; or build on an image from a registry: make images BASE=..."
command -v debootstrap >/dev/null || stop "debootstrap is not installed (on Debian: apt install debootstrap)"
for tool in ${ANNEAL_BUILDER:-podman buildah docker}; do
  if command -v "$tool" >/dev/null && { [ "$tool" != docker ] || docker info >/dev/null 2>&1; }; then builder=$tool; break; fi
done
[ -n "${builder:-}" ] || stop "none of docker, podman and buildah can build here (on Debian: apt install buildah)"

# The mirror of a suite, as apt is configured here.
# shellcheck disable=SC2016
configured() {
  apt-get indextargets "Origin: Debian" "Codename: $1" --format '$(REPO_URI)' 2>/dev/null | head -n 1 || true
}
mirror=${MIRROR:-$(configured $suite)}
mirror=${mirror:-http://deb.debian.org/debian}
security=${SECURITY_MIRROR:-$(configured $suite-security)}
security=${security:-http://deb.debian.org/debian-security}
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}

work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root
log=$work/log
started=$SECONDS
lists() { printf 'deb %s %s main\ndeb %s %s main\ndeb %s %s main\n' "$1" $suite "$1" $suite-updates "$2" $suite-security; }
in_root() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"; }

debootstrap --variant=minbase --include=$packages $suite "$root" "$mirror" >"$log" 2>&1 ||
  stop "debootstrap failed: $(tail -n 1 "$log")"
lists "$mirror" "$security" > "$root/etc/apt/sources.list"
{ in_root apt-get update --quiet && in_root apt-get dist-upgrade --yes --quiet; } >>"$log" 2>&1 ||
  stop "the security updates failed: $(tail -n 1 "$log")"

# Nothing of this machine and nothing of today stays.
lists http://deb.debian.org/debian http://deb.debian.org/debian-security > "$root/etc/apt/sources.list"
in_root apt-get clean
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/log/* "$root"/tmp/* "${root:?}"/dev/* \
  "$root"/var/cache/ldconfig/aux-cache "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old "$root"/etc/*- \
  "$root"/usr/share/man/* "$root"/usr/share/info/* "$root"/usr/share/locale/* "$root"/etc/hostname "$root"/etc/resolv.conf
find "$root/usr/share/doc" -type f ! -name copyright -delete
find "$root" -name __pycache__ -type d -prune -exec rm -rf {} +
: > "$root/etc/machine-id"
# No program runs as another user than the one who starts it; no password is as old as the image.
find "$root" -xdev -type f -perm /6000 -exec chmod a-s {} +
sed -i -E "s/^([^:]*:[^:]*:)[0-9]+:/\1$((epoch / 86400)):/" "$root/etc/shadow"

tar --create --file "$work/base.tar" --directory "$root" --sort=name --numeric-owner --mtime="@$epoch" --xattrs .
printf 'FROM scratch\nADD base.tar /\nCMD ["python3"]\n' > "$work/Dockerfile"
label=org.opencontainers.image
options=(--label "$label.title=anneal-base" --label "$label.description=Debian 12 with Python 3.11" --tag "$image")
if [ "$builder" = docker ]; then
  docker build "${options[@]}" --file "$work/Dockerfile" "$work" >"$log" 2>&1 || stop "$(tail -n 1 "$log")"
else
  # The tar alone is the context.
  printf '*\n!base.tar\n' > "$work/.dockerignore"
  $builder build "${options[@]}" --timestamp "$epoch" --file "$work/Dockerfile" "$work" >"$log" 2>&1 || stop "$(tail -n 1 "$log")"
fi
echo "base-image: $image, $($builder images --format '{{.Size}}' "$image" | head -n 1), in $((SECONDS - started)) s"
