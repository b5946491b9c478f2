#!/bin/sh
# Stands where the platform's own backup script is; the example's are backup.sh and backup-cron.sh.
echo "see backup.sh of the example"
