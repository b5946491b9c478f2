# The disaster's part of the demo, sourced by examples/demo.sh once the platform runs.
# shellcheck shell=bash disable=SC2154 # what it uses is demo.sh's

say "Its second database becomes a component too, and so do the application's image and the files of the second
project: what is in no backup cannot come back. Both projects are to be made from the restored files (redeploy)."
"${as_root[@]}" bash -c '. "$1"; parse_root -d "$2"; prepare_for_disaster' - "$here/lib.sh" "$root"

chapter "2. Two backups"
say "One by the runbook's shell commands, with nothing of restore's; one by \`restore backup\`, which also
carries restore.toml."
run "${as_root[@]}" "$here/backup.sh" -d "$root" --with-images
by_hand=$("${as_root[@]}" ls "$root/backups")
run "${restore[@]}" backup
ours=$("${as_root[@]}" ls "$root/backups" | grep -vFx "$by_hand")
say "What the platform holds at this moment: every row, key and file as a digest. What is another one
on a new engine (ids) is left out."
fingerprint "$work/at-backup-time" --anew

files=images,docker-compose,docker-compose-monitoring,nginx-config,prometheus-config,scripts,applications,crontab
data=postgres,metrics,redis,grafana,nginx-logs,nginx-cache

# brings_back ID: three commands on a machine that has nothing of the platform any more.
brings_back() {
  run "${as_root[@]}" "$target/release/restore" init --from "$root/backups" latest --output "$root/restore.toml"
  # Exit code 8: the checks of the data fail until that is restored.
  run "${restore[@]}" run "$1" --create --only "$files" --yes || [ $? = 8 ]
  run "${restore[@]}" run "$1" --create --only "$data" --yes
}

# is_back: it is what it was when the backups were made.
is_back() {
  say "The platform now, against the moment of the backups:"
  fingerprint "$work/restored" --anew
  same "$work/at-backup-time" "$work/restored" "as it was at backup time"
  ask /health
  ask /api/version
}

chapter "3. The disaster"
say "The engine's data are destroyed: containers, networks, volumes and the application's image; and every
tree. A new engine starts."
run "${as_root[@]}" "$here/disaster.sh" -d "$root"
run "${as_root[@]}" ls "$root"
run "${as_root[@]}" "$platform" -d "$root" docker ps -a

chapter "4. Three commands, and the backup that restore made"
say "The first brings restore.toml, the second images, trees and the containers of both projects, the third the
data."
brings_back "$ours"
is_back

chapter "5. Once more, from the backup of the shell commands"
run "${as_root[@]}" "$here/disaster.sh" -d "$root"
brings_back "$by_hand"
say "How many containers a service had no compose file says, and no shell command wrote down:"
run "${as_root[@]}" "$platform" -d "$root" compose hosting up -d --scale app=2
is_back
rm -rf -- "$work"
work=

chapter "All of it was as it should be"
cat <<TEXT

The platform runs in $root. What the run made that was absent, and what it says of itself:

  ${restore[*]} report

To stop the platform and delete it: make demo-stop PLATFORM=compose
TEXT
