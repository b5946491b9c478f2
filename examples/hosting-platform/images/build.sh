# How the images are made; sourced by images.sh, with $cache and $recipe set.
# shellcheck shell=bash

suite=bookworm
images=(
  restore-example/tools:1 restore-example/grafana-stand-in:1 restore-example/postgres:15
  restore-example/redis:7.0 restore-example/nginx:1.22 restore-example/prometheus:2.42
  localhost:5000/hosting-app:2.4.0 localhost:5000/hosting-app:2.4.1
)
# What the Dockerfile's stages install.
tools=(curl postgresql-client procps python3 python3-psycopg2 python3-redis redis-tools)
servers=(nginx-light postgresql postgresql-contrib prometheus redis-server)

# --- Debian, from this machine's own mirror ----------------------------------------------------

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

# The least of Debian, as a file system in $1. It names no mirror and no proxy.
bootstrap() {
  local target=$1 site
  site=$(mirror "$suite" http://deb.debian.org/debian)
  env ${http_proxy:+"http_proxy=$http_proxy"} debootstrap --variant=minbase --include=ca-certificates "$suite" "$target" "$site" >"$target.log" 2>&1 || {
    tail -n 20 "$target.log" >&2
    die "debootstrap from $site failed"
  }
  # Nobody reads manuals in here. What dpkg leaves out now, `tidy` need not delete.
  printf 'path-exclude=/usr/share/%s/*\n' doc man locale info lintian >"$target/etc/dpkg/dpkg.cfg.d/small"
  cat >"$target/usr/local/sbin/tidy" <<'TIDY'
#!/bin/sh
rm -rf /etc/apt/sources.list /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb \
  /var/cache/debconf/*-old /var/log/*.log /var/log/apt
TIDY
  cat >"$target/usr/sbin/policy-rc.d" <<'POLICY'
#!/bin/sh
exit 101
POLICY
  chmod 755 "$target/usr/local/sbin/tidy" "$target/usr/sbin/policy-rc.d"
  rm -rf "$target"/usr/share/{doc,man,locale,info,lintian}/* "$target"/var/cache/apt/archives/*.deb \
    "$target"/var/lib/apt/lists/* "$target"/var/log/* "$target/etc/apt/sources.list"
}

# What the images' packages need, as a repository in $2 for an apt in the file system $1, which does
# the downloading and stays as it is but for that.
download() { # TREE REPOSITORY
  local tree=$1 repository=$2 options=(-q -y --no-install-recommends)
  [ -z "${http_proxy:-}" ] || options+=(-o "Acquire::http::Proxy=$http_proxy")
  {
    echo "deb $(mirror "$suite" http://deb.debian.org/debian) $suite main"
    echo "deb $(mirror "$suite-security" http://deb.debian.org/debian-security) $suite-security main"
  } >"$tree/etc/apt/sources.list"
  cp /etc/resolv.conf /etc/hosts "$tree/etc/"
  # First what one stage needs by itself: with the others' packages it might be less.
  {
    env ${http_proxy:+"http_proxy=$http_proxy"} chroot "$tree" apt-get "${options[@]}" update &&
      env ${http_proxy:+"http_proxy=$http_proxy"} chroot "$tree" apt-get "${options[@]}" install --download-only "${tools[@]}" &&
      env ${http_proxy:+"http_proxy=$http_proxy"} chroot "$tree" apt-get "${options[@]}" install --download-only "${tools[@]}" "${servers[@]}"
  } >"$tree.log" 2>&1 </dev/null || {
    tail -n 20 "$tree.log" >&2
    die "downloading the images' packages failed"
  }
  mkdir "$repository"
  mv "$tree"/var/cache/apt/archives/*.deb "$repository/"
  local package
  for package in "$repository"/*.deb; do
    dpkg-deb -f "$package"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "${package##*/}" "$(stat -c %s "$package")" \
      "$(sha256sum "$package" | cut -d ' ' -f 1)"
  done >"$repository/Packages"
}

# --- the images, in an engine that has no way out ------------------------------------------------

# An engine in a folder of its own, for as long as something is made with it.
start_engine() {
  local folder=$cache
  case $cache in *[!A-Za-z0-9/._+@-]* | /run/* | /var/lib/*) folder=/var/tmp ;; esac
  [ ${#cache} -le 50 ] || folder=/var/tmp
  scratch=$(mktemp -d "$folder/engine.XXXXXXXX")
  # The lock is this script's alone.
  "$here/engine" -d "$scratch/engine" start 9>&-
  use_engine "$scratch/engine"
  find_network
}

end_engine() {
  [ -z "${scratch:-}" ] || "$here/engine" -d "$scratch/engine" destroy 9>&-
  [ -z "${scratch:-}" ] || rm -rf -- "$scratch"
  scratch=
}

end_making() {
  [ -z "${server:-}" ] || kill "$server" 2>/dev/null || true
  server=
  end_engine
  [ -z "${work:-}" ] || rm -rf -- "$work"
  work=
}

# Serves a folder on the loopback of the engine's network, and sets `address` to where.
serve() { # FOLDER
  inside /usr/bin/python3 -u -m http.server --bind 127.0.0.1 --directory "$1" 0 </dev/null >"$work/served" 2>&1 9>&- &
  server=$!
  wait_for 60 grep -qs ' port [0-9]' "$work/served" || die "the images' packages could not be served: $(cat "$work/served")"
  address=http://127.0.0.1:$(sed -nE 's/.* port ([0-9]+) .*/\1/p' "$work/served" | head -n 1)
}

# TARGET TAG ARGUMENTS…: the classic builder, which every engine has.
build() {
  local target=$1 tag=$2
  shift 2
  DOCKER_BUILDKIT=0 docker build --network host --target "$target" -t "$tag" \
    --build-arg BASE="$base" --build-arg REPOSITORY="$address" \
    --build-arg TOOLS="${tools[*]}" --build-arg SERVERS="${servers[*]}" \
    "$@" "$work/context" >"$work/build.log" 2>&1 </dev/null || {
    tail -n 30 "$work/build.log" >&2
    die "building $tag failed"
  }
}

make_images() { # FILE
  local base=restore-example/debian:$suite http_proxy
  command -v debootstrap >/dev/null || die "debootstrap is missing: run $repository/scripts/setup.sh engine"
  http_proxy=$(proxy)
  work=$(mktemp -d "$cache/work.XXXXXXXX")
  trap end_making EXIT
  trap 'exit 130' INT TERM
  echo "making the platform's images, once; this takes a minute or two" >&2
  # Kept by itself: it stays while the rest changes.
  if [ -f "$cache/base-$suite.tar" ]; then
    mkdir "$work/debian"
    tar -C "$work/debian" --numeric-owner -xpf "$cache/base-$suite.tar"
  else
    bootstrap "$work/debian"
    tar -C "$work/debian" --numeric-owner -cf "$work/base.tar" .
    mv "$work/base.tar" "$cache/base-$suite.tar"
    # What an earlier version of this script kept.
    rm -f "$cache/debian-$suite.tar"
  fi
  download "$work/debian" "$work/packages"
  cp -r "$here/images" "$work/context"
  cp -r "$application" "$work/context/hosting-app"
  # Users of their own read these, whatever the umask of whoever cloned the repository.
  chmod -R u=rwX,go=rX "$work/context"
  start_engine
  serve "$work/packages"
  docker import "$cache/base-$suite.tar" "$base" >/dev/null
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
  end_making
  trap - EXIT INT TERM
}

# What an engine has in its folder after it loaded FILE and ended in good order, less what is its own:
# swarm, networks, volumes. An engine that keeps layers in another way than this leaves an empty folder.
make_data() { # FOLDER
  work=$(mktemp -d "$cache/work.XXXXXXXX")
  trap end_making EXIT
  trap 'exit 130' INT TERM
  mkdir "$work/data"
  start_engine
  if [ "$(docker info -f '{{.Driver}}')" = overlay2 ]; then
    docker load -q -i "$file" >/dev/null
    note_tags "$work/data/images.txt"
    "$here/engine" -d "$engine" stop 9>&-
    mv "$engine/data/image" "$engine/data/overlay2" "$work/data/"
  fi
  mv "$work/data" "$1"
  end_making
  trap - EXIT INT TERM
}
