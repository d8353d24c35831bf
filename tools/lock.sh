#!/bin/sh
# Write requirements/*.lock anew: exact versions and hashes for every platform, and no address.
# The larger locks constrain the smaller ones, so that one version of each package is used everywhere.
set -eu
cd "$(dirname "$0")/.."
command -v uv >/dev/null || { echo "make lock needs uv (pip install uv)" >&2; exit 2; }

compile() {
	out=$1
	shift
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --no-strip-extras "$@" pyproject.toml -o "requirements/$out.lock"
}

compile real --extra server --extra live --extra postgresql --group build --group dev --group real
compile dev -c requirements/real.lock --extra server --extra live --extra postgresql --group build --group dev
compile run -c requirements/real.lock --extra server --group build
