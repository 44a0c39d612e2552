#!/usr/bin/env bash
# One machine of test_on_prem.py: a network, processes, /tmp, /mnt, /run and a home of its own, and sshd on port 22.
#   machine.sh NAME ADDRESS FOLDER SHARED PACKAGES
# FOLDER becomes its home, with PACKAGES in it, and SHARED its /mnt/glance. Called in new namespaces; it waits for the interface `lan`.
set -euo pipefail
name=$1 address=$2 folder=$3 shared=$4 packages=$5

hostname "$name"
sed "s|^\(root:[^:]*:[^:]*:[^:]*:[^:]*:\)[^:]*:.*|\1/mnt/home:/bin/bash|" /etc/passwd >"$folder/passwd"
printf '127.0.0.1 localhost\n%s %s\n' "$address" "$name" >"$folder/hosts"
mount --make-rprivate /
mount --bind "$folder/passwd" /etc/passwd
mount --bind "$folder/hosts" /etc/hosts
mkdir "$folder/packages"
mount --bind "$packages" "$folder/packages"
mount -t tmpfs machine /mnt
mkdir /mnt/home /mnt/glance
mount --rbind "$folder" /mnt/home
mount --bind "$shared" /mnt/glance
mount -t tmpfs machine /tmp
mount -t tmpfs machine /run
mkdir /run/sshd
chmod 755 /mnt /run/sshd

ip link set lo up
until ip link show lan >/dev/null 2>&1; do sleep 0.1; done
ip address add "$address/24" dev lan
ip link set lan up
ip route add default via "${address%.*}.1"
exec /usr/sbin/sshd -D -e -f /mnt/home/sshd/config
