#!/bin/bash
# A crontab's line: 30 2 * * * postgres /usr/local/bin/backup.sh
set -euo pipefail
umask 077
pg_dumpall --clean --if-exists | gzip >"/var/backups/pg_dumpall_$(date +%F_%H%M).sql.gz"
