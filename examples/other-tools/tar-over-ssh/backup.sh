#!/bin/bash
# Two pipes into a folder of the storage host, which is mounted here at /mnt/nas.
set -euo pipefail
now=$(date +%Y%m%d-%H%M)
tar -C /srv -cf - uploads | ssh nas "cat >/mnt/nas/uploads-$now.tar"
pg_dump -Fc shop | ssh nas "cat >/mnt/nas/shop-$now.dump"
