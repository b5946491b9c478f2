#!/bin/bash
# The platform's images: made from Debian's packages once, then taken from files.
#
#   images.sh                make them, unless they are there
#   images.sh -d ENGINE      have them in every node of the engine in this folder
#   images.sh copy NODE      have them in NODE/data, of an engine that was never started
#   images.sh tree TAG DIR [WITHOUT…]
#                            the file system of an image in the empty folder DIR, without an engine; without
#                            files of these names
#
# What is made lies in $RESTORE_SWARM_CACHE, or target/hosting-platform of the repository, and is named
# by a hash of what it is made from: images-HASH.tar for `docker load`, and data-HASH, what an engine
# that loaded them has in its own folder. An engine that begins with that shares the files of the
# layers, which nobody writes, by hard links, and has copies of everything else. No registry is asked,
# for nothing.
set -euo pipefail
self=$(readlink -f "$0")
. "${self%/*}/lib.sh"
become_root "$self" "$@"

cache=${RESTORE_SWARM_CACHE:-$repository/target/hosting-platform}
# Besides the images/ folder: the code that is built into the application's.
application=$sibling/template/opt/applications/hosting-app

. "$here/images/build.sh"

recipe() {
  {
    (cd "$here/images" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
    (cd "$application" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
  } | sha256sum | cut -c 1-16
}

# Whoever owns the repository owns the folder.
make_cache() {
  local owner=()
  if [ ! -d "$cache" ]; then
    owner=(--owner="$(stat -c %U "$repository")" --group="$(stat -c %G "$repository")")
    [ -n "${RESTORE_SWARM_CACHE:-}" ] || [ -d "$repository/target" ] || install -d "${owner[@]}" "$repository/target"
    install -d "${owner[@]}" "$cache"
  fi
  cache=$(cd "$cache" && pwd -P)
}

# Makes what is missing: one at a time, whoever comes second finds it. What is there stays until the
# end of this script.
make_all() {
  make_cache
  recipe=$(recipe)
  file=$cache/images-$recipe.tar
  data=$cache/data-$recipe
  exec 9>"$cache/lock"
  flock -s 9
  if [ ! -f "$file" ] || [ ! -d "$data" ]; then
    ! private_network || die "the images are not made, and this network has no way out: run $here/images.sh first"
    flock 9
    [ -f "$file" ] || make_images "$file"
    [ -d "$data" ] || make_data "$data"
    find "$cache" -mindepth 1 -maxdepth 1 \( -name 'images-*.tar' -o -name 'data-*' \) -mtime +7 -exec rm -rf {} +
  fi
  touch "$file" "$data"
}

# What the tags meant when the images came is written down beside the engine's socket: a tag that a test
# moved goes back without loading anything again.
restore_tags() { # LIST
  local tag id tags ids
  [ "$(head -n 1 "$1" 2>/dev/null)" = "$recipe" ] || return 1
  mapfile -t tags < <(tail -n +2 "$1" | cut -d ' ' -f 1)
  mapfile -t ids < <(tail -n +2 "$1" | cut -d ' ' -f 2)
  [ "$(docker image inspect -f '{{.Id}}' "${tags[@]}" 2>/dev/null)" != "$(printf '%s\n' "${ids[@]}")" ] || return 0
  while read -r tag id; do
    docker tag "$id" "$tag" 2>/dev/null || return 1
  done < <(tail -n +2 "$1")
}

note_tags() { # LIST
  {
    echo "$recipe"
    paste -d ' ' <(printf '%s\n' "${images[@]}") <(docker image inspect -f '{{.Id}}' "${images[@]}")
  } >"$1"
}

load() {
  local socket list
  for socket in "$root/docker.sock" "$root"/workers/*/docker.sock; do
    [ -S "$socket" ] || continue
    export DOCKER_HOST=unix://$socket
    list=$(dirname "$socket")/images.txt
    ! restore_tags "$list" || continue
    docker load -q -i "$file" >/dev/null
    note_tags "$list"
  done
}

# Where the layers cannot be shared, or the engine keeps them in another way than the one that made
# them, the node gets a copy, or nothing, and loads them.
copy() { # NODE
  local node=$1
  [ -d "$data/overlay2" ] || return 0
  mkdir -p "$node/data"
  rm -rf -- "$node/data/overlay2"
  if ! copy_by_links "$data/overlay2" "$node/data/overlay2" 2>/dev/null; then
    rm -rf -- "$node/data/overlay2"
    cp -a --reflink=auto "$data/overlay2" "$node/data/"
  fi
  cp "$data/images.txt" "$node/"
  # Last: as long as this is not there, nothing is.
  cp -a "$data/image" "$node/data/image.new"
  mv "$node/data/image.new" "$node/data/image"
}

copy_by_links() { # FROM TO
  local others
  mkdir "$2" && chmod --reference="$1" "$2" || return
  (
    cd "$1" || exit
    # An engine's own files beside a layer's content.
    mapfile -t -d '' others < <(find . -mindepth 2 -maxdepth 2 ! -name diff -print0)
    cp -al --parents -- */diff "$2/" && cp -a --parents -- "${others[@]}" "$2/"
  )
}

# An image's layers over each other. A layer says by a file of its own what it takes away.
unpack() { # TAG FOLDER WITHOUT…
  local tag=$1 folder=$2 layer layers link mark without=()
  shift 2
  for mark; do without+=("--exclude=$mark"); done
  layers=$(tar -xOf "$file" manifest.json | /usr/bin/python3 -c '
import json, sys
found = [image for image in json.load(sys.stdin) if sys.argv[1] in (image["RepoTags"] or [])]
print("\n".join(found[0]["Layers"]) if found else "")' "$tag")
  [ -n "$layers" ] || die "there is no image $tag: there are ${images[*]}"
  for layer in $layers; do
    # One that is there twice is a link to itself, "../ID/layer.tar".
    link=$(tar -tvf "$file" "$layer" | sed -n 's|.* -> \.\./||p')
    tar -xOf "$file" "${link:-$layer}" | tar -C "$folder" --numeric-owner "${without[@]}" -xpf -
    while IFS= read -r -d '' mark; do
      rm -rf -- "$(dirname "$mark")/$(basename "$mark" | sed 's/^\.wh\.//')" "$mark"
    done < <(find "$folder" -xdev -name '.wh.*' -print0)
  done
}

case ${1:-} in
  "") make_all ;;
  tree)
    [ -d "${3:-}" ] && [ -z "$(ls -A "$3")" ] || die "${3:-the folder} is not an empty folder"
    make_all
    unpack "${@:2}"
    ;;
  -d)
    parse_root "$@"
    use_engine "$root"
    make_all
    load
    ;;
  copy)
    node=$(realpath -e -- "${2:?of which node}")
    make_all
    copy "$node"
    ;;
  *)
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
    ;;
esac
