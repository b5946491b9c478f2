#!/bin/bash
# A folder for each night, with a list of its files that `sha256sum -c` reads.
set -euo pipefail
folder=/var/backups/$(date +%Y-%m-%d_%H-%M)
mkdir -p "$folder"
cd "$folder"
pg_dump shop | xz -1 >shop.sql.xz
tar -C /srv/uploads -cJf uploads.tar.xz .
sha256sum -- * >SHA256SUMS
