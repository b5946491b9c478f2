#!/bin/bash
# The platform's images: made from Debian's packages once, then loaded from a file.
#
#   images.sh -d ENGINE      have them in every node of the engine in this folder
#
# The file lies in $RESTORE_SWARM_CACHE, or target/hosting-platform of the repository, and is named
# by a hash of what it is made from. No registry is asked, for nothing.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/lib.sh"
become_root "$(readlink -f "$0")" "$@"
parse_root "$@"
use_engine "$root"

cache=${RESTORE_SWARM_CACHE:-$repository/target/hosting-platform}
# Besides the images/ folder: the code that is built into the application's.
application=$sibling/template/opt/applications/hosting-app

. "$here/images/build.sh"

recipe() {
  {
    (cd "$here/images" && find . -type f -print0 | sort -z | xargs -0 sha256sum)
    (cd "$application" && find . -type f -print0 | sort -z | xargs -0 sha256sum)
  } | sha256sum | cut -c 1-16
}

# What the tags mean in this engine was written down when they were loaded: a tag that a test moved
# goes back without loading anything again.
restore_tags() {
  local tag id
  [ "$(head -n 1 "$list" 2>/dev/null)" = "$file" ] || return 1
  while read -r tag id; do
    docker tag "$id" "$tag" 2>/dev/null || return 1
  done < <(tail -n +2 "$list")
}

note_tags() {
  {
    echo "$file"
    paste -d ' ' <(printf '%s\n' "${images[@]}") <(docker image inspect -f '{{.Id}}' "${images[@]}")
  } >"$list"
}

# Whoever owns the repository can delete it again.
if [ ! -d "$cache" ]; then
  owner=(--owner="$(stat -c %U "$repository")" --group="$(stat -c %G "$repository")")
  [ -n "${RESTORE_SWARM_CACHE:-}" ] || [ -d "$repository/target" ] || install -d "${owner[@]}" "$repository/target"
  install -d "${owner[@]}" "$cache"
fi
file=$cache/images-$(recipe).tar
# One at a time: whoever comes second finds the file.
exec 9>"$cache/lock"
flock 9
for socket in "$root/docker.sock" "$root"/workers/*/docker.sock; do
  [ -S "$socket" ] || continue
  export DOCKER_HOST=unix://$socket
  list=$(dirname "$socket")/images.txt
  ! restore_tags || continue
  if [ -f "$file" ]; then
    docker load -q -i "$file" >/dev/null
    touch "$file"
  else
    make_images "$file"
    find "$cache" -name 'images-*.tar' -mtime +7 -delete
  fi
  note_tags
done
