#!/bin/sh
# Installs Debian packages without starting or enabling any service of theirs.
# Arguments: POLICY_FILE UNIT_DIRECTORY PACKAGE...; run as root.
set -u
policy=$1
units=$2
shift 2
mark='written by flotilla; removed when its installation ends'
services='mariadb mysql nginx memcached php7.4-fpm php8.0-fpm php8.1-fpm php8.2-fpm php8.3-fpm php8.4-fpm php8.5-fpm'
known=''
for service in $services; do
	if [ -e "$units/$service.service" ]; then known="$known $service "; fi
done
# One that an earlier run left behind when it was killed is ours, too.
if [ ! -e "$policy" ] || grep -q "$mark" "$policy"; then
	trap 'rm -f "$policy"' EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	printf '#!/bin/sh\n# %s\nexit 101\n' "$mark" >"$policy" && chmod 755 "$policy" || exit 1
fi
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
# Lists that are old but there may do; the installation tells.
apt-get -q -o DPkg::Lock::Timeout=120 update
apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 \
	-o Dpkg::Options::=--force-confold install "$@"
status=$?
for service in $services; do
	case $known in *" $service "*) continue ;; esac
	if [ ! -e "$units/$service.service" ]; then continue; fi
	if command -v systemctl >/dev/null; then
		systemctl --quiet disable "$service.service" || true
	else
		deb-systemd-helper disable "$service.service" || true
		update-rc.d "$service" disable || true
	fi
done
exit $status
