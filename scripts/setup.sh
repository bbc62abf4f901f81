#!/usr/bin/env bash
# Installs what the tests need and this machine lacks; does nothing when nothing is missing.
# Go, Node.js with npm, git, make and a C compiler are expected; PostgreSQL, Redis and Chromium are installed with apt when
# this user may, else named. The system's own servers need not run: the tests start private ones.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly oldest_node=20

fail() {
	echo "setup: $*" >&2
	exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

have_postgres() {
	have postgres && have initdb && return
	local dir
	for dir in /usr/lib/postgresql/*/bin; do
		[ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] && return
	done
	return 1
}

have_browser() {
	[ -n "${CHROMIUM:-}" ] || have chromium || have chromium-browser || have google-chrome-stable || have google-chrome
}

missing_packages() {
	have cc || have gcc || echo gcc libc6-dev
	have_postgres || echo postgresql
	have redis-server || echo redis-server
	have_browser || echo chromium
}

apt() {
	local as_root=()
	[ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
	# The packages' own services are not wanted; whether they come up decides nothing here.
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

may_install() {
	have apt-get || return
	[ "$(id -u)" -eq 0 ] || { have sudo && sudo -n true 2>/dev/null; }
}

install_packages() {
	local packages
	mapfile -t packages < <(missing_packages | tr ' ' '\n')
	[ ${#packages[@]} -gt 0 ] || return 0
	may_install || fail "missing: ${packages[*]} (names of Debian's packages). Install them, or run this as root or with sudo."
	echo "setup: installing ${packages[*]}"
	apt update
	apt install -y --no-install-recommends "${packages[@]}" || true
	mapfile -t packages < <(missing_packages | tr ' ' '\n')
	[ ${#packages[@]} -eq 0 ] || fail "apt-get did not install ${packages[*]}; its messages are above."
}

check_go() {
	have go || fail "Go is missing: install the version that go.mod names, or a later one (https://go.dev/doc/install)."
}

check_node() {
	have node && have npm || fail "Node.js $oldest_node or later with npm is missing (Debian's packages nodejs and npm, or https://nodejs.org)."
	local version major
	version=$(node --version)
	major=${version#v}
	major=${major%%.*}
	[ "$major" -ge "$oldest_node" ] || fail "$(command -v node) is Node.js $version: $oldest_node or later is needed."
}

# The tests do the same by themselves, under a lock, when they find the packages missing or outdated.
install_client() {
	local dir=internal/testkit/client sum
	sum=$(sha256sum "$dir/package-lock.json" | cut -d' ' -f1)
	[ "$(cat "$dir/node_modules/.installed" 2>/dev/null)" = "$sum" ] && return
	(
		if have flock; then
			exec 9>"$dir/.install.lock"
			flock 9
		fi
		[ "$(cat "$dir/node_modules/.installed" 2>/dev/null)" = "$sum" ] && exit
		echo "setup: installing the Socket.IO client of the tests"
		npm --prefix "$dir" ci --no-progress --loglevel=error
		printf %s "$sum" >"$dir/node_modules/.installed"
	)
}

check_go
check_node
install_packages
install_client
