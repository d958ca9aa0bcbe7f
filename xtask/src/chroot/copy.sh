# Puts cargo, the checkout and the machine's own certificate authorities into a new Debian.
# Usage: copy committed|uncommitted DEBIAN CARGO_BIN ; in the root of the checkout
what=$1 debian=$2 programs=$3

mkdir -p "$debian/root/.cargo" "$debian/usr/local/share/ca-certificates"
cp -a "$programs" "$debian/root/.cargo/bin"
if [ -d /usr/local/share/ca-certificates ]; then
	cp -r /usr/local/share/ca-certificates/. "$debian/usr/local/share/ca-certificates/"
fi
# Debian's installer writes it, debootstrap does not; without it chromedriver finds no Chromium.
echo '127.0.0.1 localhost' >"$debian/etc/hosts"
git clone --quiet --no-hardlinks . "$debian/root/flotilla"
if [ "$what" = uncommitted ]; then
	# Files that are removed but not committed are named, too.
	git ls-files -z --cached --others --exclude-standard |
		tar --create --null --files-from=- --ignore-failed-read --warning=none |
		tar --extract --directory="$debian/root/flotilla"
elif [ -n "$(git status --porcelain)" ]; then
	echo 'warning: what is not committed is left out; see --uncommitted' >&2
fi
