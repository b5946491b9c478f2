#!/bin/bash
# What WHM's scheduled backup leaves: /backup/DATE/accounts/USER.tar.gz, the account's home in it as
# USER/homedir/.
set -euo pipefail
folder=/backup/$(date +%F)
work=$(mktemp -d)
mkdir -p "$folder/accounts" "$work/shop/homedir" "$work/shop/cp"
cp -a /home/shop/. "$work/shop/homedir/"
printf 'USER=shop\nDNS=shop.example.org\n' >"$work/shop/cp/shop"
tar -C "$work" -czf "$folder/accounts/shop.tar.gz" shop
rm -r "$work"
