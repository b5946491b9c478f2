# How the images are made; sourced by images.sh, with $cache and `docker` set.
# shellcheck shell=bash

suite=bookworm
images=(
  restore-example/tools:1 restore-example/grafana-stand-in:1 restore-example/postgres:15
  restore-example/redis:7.0 restore-example/nginx:1.22 restore-example/prometheus:2.42
  localhost:5000/hosting-app:2.4.0 localhost:5000/hosting-app:2.4.1
)

# The mirror of the machine's own sources for SUITE, or else Debian's own.
mirror() {
  local found
  # shellcheck disable=SC2016 # apt's variables, not the shell's
  found=$(apt-get indextargets --format '$(SITE) $(RELEASE)' "Created-By: Packages" 2>/dev/null |
    sed -n "s/ $1\$//p" | head -n 1)
  echo "${found:-$2}"
}

proxy() {
  local found=
  eval "$(apt-config shell found Acquire::http::Proxy)"
  [ -n "$found" ] || found=${http_proxy:-}
  [ -z "$found" ] || echo "$found"
}

# The least of Debian, as a file system in $1.
bootstrap() {
  local target=$1 site http_proxy
  site=$(mirror "$suite" http://deb.debian.org/debian)
  http_proxy=$(proxy)
  export http_proxy
  [ -n "$http_proxy" ] || unset http_proxy
  debootstrap --variant=minbase --include=ca-certificates "$suite" "$target" "$site" >"$target.log" 2>&1 || {
    tail -n 20 "$target.log" >&2
    die "debootstrap from $site failed"
  }
  {
    echo "deb $site $suite main"
    echo "deb $(mirror "$suite-security" http://deb.debian.org/debian-security) $suite-security main"
  } >"$target/etc/apt/sources.list"
  [ -z "${http_proxy:-}" ] ||
    echo "Acquire::http::Proxy \"$http_proxy\";" >"$target/etc/apt/apt.conf.d/99proxy"
  # Nobody reads manuals in here. What dpkg leaves out now, `tidy` need not delete.
  printf 'path-exclude=/usr/share/%s/*\n' doc man locale info lintian >"$target/etc/dpkg/dpkg.cfg.d/small"
  cat >"$target/usr/local/sbin/tidy" <<'SH'
#!/bin/sh
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb \
  /var/cache/debconf/*-old /var/log/*.log /var/log/apt
SH
  cat >"$target/usr/sbin/policy-rc.d" <<'SH'
#!/bin/sh
exit 101
SH
  chmod 755 "$target/usr/local/sbin/tidy" "$target/usr/sbin/policy-rc.d"
  rm -rf "$target"/usr/share/{doc,man,locale,info,lintian}/* "$target"/var/cache/apt/archives/*.deb \
    "$target"/var/lib/apt/lists/* "$target"/var/log/*
}

# TARGET TAG ARGUMENTS…: the classic builder, which every engine has.
build() {
  local target=$1 tag=$2
  shift 2
  DOCKER_BUILDKIT=0 docker build --network host --target "$target" -t "$tag" \
    --build-arg BASE="$base" "$@" "$work/context" >"$work/build.log" 2>&1 </dev/null || {
    tail -n 30 "$work/build.log" >&2
    die "building $tag failed"
  }
}

make_images() { # FILE
  command -v debootstrap >/dev/null || die "debootstrap is missing: run $repository/scripts/setup.sh engine"
  work=$(mktemp -d "$cache/work.XXXXXXXX")
  trap 'rm -rf -- "$work"' EXIT
  trap 'exit 130' INT TERM
  echo "making the platform's images, once; this takes a minute or two" >&2
  base=restore-example/debian:$suite
  # Kept by itself: it stays while the rest changes.
  if [ ! -f "$cache/debian-$suite.tar" ]; then
    bootstrap "$work/debian"
    tar -C "$work/debian" --numeric-owner -cf "$work/debian.tar" .
    mv "$work/debian.tar" "$cache/debian-$suite.tar"
  fi
  docker import "$cache/debian-$suite.tar" "$base" >/dev/null
  cp -r "$here/images" "$work/context"
  cp -r "$application" "$work/context/hosting-app"
  build tools restore-example/tools:1
  build app localhost:5000/hosting-app:2.4.1 --build-arg VERSION=2.4.1
  # An older build of it, for tests that move a tag.
  build app localhost:5000/hosting-app:2.4.0 --build-arg VERSION=2.4.0
  build grafana restore-example/grafana-stand-in:1
  build postgres restore-example/postgres:15
  build redis restore-example/redis:7.0
  build nginx restore-example/nginx:1.22
  build prometheus restore-example/prometheus:2.42
  docker save "${images[@]}" -o "$work/images.tar"
  mv "$work/images.tar" "$1"
  docker rmi "$base" >/dev/null
  rm -rf -- "$work"
  trap - EXIT INT TERM
}
