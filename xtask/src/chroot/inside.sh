# The first process in the new namespaces: mounts what a machine has, then runs the command.
# Usage: inside DEBIAN RUSTUP_HOME COMMAND...
debian=$1 toolchains=$2
shift 2

mount --bind "$debian" "$debian"
mount -t proc proc "$debian/proc"
mount -t sysfs -o ro sysfs "$debian/sys"
mount -t tmpfs -o mode=0755,nosuid tmpfs "$debian/dev"
for name in null zero full random urandom tty fuse; do
	touch "$debian/dev/$name"
	mount --bind "/dev/$name" "$debian/dev/$name"
done
mkdir "$debian/dev/pts" "$debian/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$debian/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$debian/dev/shm"
ln -s pts/ptmx "$debian/dev/ptmx"
ln -s /proc/self/fd "$debian/dev/fd"
ln -s fd/0 "$debian/dev/stdin"
ln -s fd/1 "$debian/dev/stdout"
ln -s fd/2 "$debian/dev/stderr"
mkdir -p "$debian/root/.rustup"
mount --bind "$toolchains" "$debian/root/.rustup"
mount -o remount,bind,ro "$debian/root/.rustup"

# Only what says how the network is reached passes from the outer environment.
passed=
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
	eval "value=\${$name-}"
	if [ -n "$value" ]; then passed="$passed $name=$value"; fi
done
# This shell stays, because the first process must reap those whose parents have ended.
# shellcheck disable=SC2086
chroot "$debian" /usr/bin/env -i $passed \
	HOME=/root TERM="${TERM:-dumb}" LANG=C.UTF-8 PATH=/root/.cargo/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	sh -euc 'update-ca-certificates >/dev/null; cd /root/flotilla; "$@"' sh "$@"
exit $?
