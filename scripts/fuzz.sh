#!/usr/bin/env bash
# Runs every fuzz target for a while, one after the other: scripts/fuzz.sh [DURATION each, 20s] [PACKAGES, ./...]
# An input that breaks a target is kept in the package's testdata/fuzz and from then on is a test case.
set -euo pipefail
cd "$(dirname "$0")/.."
duration=${1:-20s}
packages=${2:-./...}

failed=0
ran=0
while read -r package; do
	while read -r target; do
		[ -n "$target" ] || continue
		echo "--- $package $target"
		go test -run='^$' -fuzz="^$target\$" -fuzztime="$duration" "$package" </dev/null || failed=1
		ran=$((ran + 1))
	done < <(go test -list='^Fuzz' "$package" </dev/null | grep '^Fuzz' || true)
done < <(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' "$packages")

echo "fuzz: $ran targets, $duration each"
exit "$failed"
