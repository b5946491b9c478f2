#!/bin/sh
# Called by cron: deletes temporary files that are older than a week.
find /tmp -xdev -type f -mtime +7 -delete
