# Sourced by ./dev: from git and Python 3.11 alone to the locked environment in .venv.
# Names no package index and leaves mirrors, proxies, certificates and passwords to pip: pip, wherever it comes
# from, gets the uv of bootstrap.lock, and uv the rest of requirements.lock. Both files hold hashes only.

fail() { echo "dev: $*" >&2; exit 1; }

environment() { # the locked environment, first on PATH; two callers at once go one after the other
  mkdir -p .tools; exec 9>.tools/lock; ! command -v flock >/dev/null || flock 9
  find_python; heed_pip_settings; get_uv; sync_packages
  exec 9>&-
  PATH=$PWD/.venv/bin:$PATH
}

find_python() { # sets $python
  for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11} none; do
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return
  done
  fail "needs Python 3.11 or newer; on Debian and Ubuntu: apt-get install python3"
}

heed_pip_settings() { # uv reads none of pip's settings, nor pip uv's or SSL_CERT_FILE: what one was told, both hear
  cert=${SSL_CERT_FILE:-$(pip_setting cert)}; cert=${cert:-${REQUESTS_CA_BUNDLE:-${CURL_CA_BUNDLE:-}}}
  [ -z "$cert" ] || export SSL_CERT_FILE="$cert" PIP_CERT="${PIP_CERT:-$cert}"
  index=${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-$(pip_setting index-url)}}
  case ${index%%://*} in *=*) index=${index#*=} ;; esac # uv allows NAME=URL
  [ -z "$index" ] || export UV_DEFAULT_INDEX="$index" PIP_INDEX_URL="$index"
  export UV_COMPILE_BYTECODE="${UV_COMPILE_BYTECODE-1}"         # once here instead of in each of many short processes
  export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS-1}"                # trust what the machine trusts
  export UV_PYTHON_DOWNLOADS="${UV_PYTHON_DOWNLOADS-never}"    # a clear word instead of a slow failure
  export UV_CONCURRENT_DOWNLOADS="${UV_CONCURRENT_DOWNLOADS-8}" # small name servers drop bursts
}

pip_setting() { # prints what pip would use for $1
  "$python" - "$1" <<'PYTHON'
import configparser, os, sys
name = sys.argv[1]
config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
found = [os.environ.get("PIP_" + name.upper().replace("-", "_"))]
for file in (os.environ.get("PIP_CONFIG_FILE", ""), config + "/pip/pip.conf", os.path.expanduser("~/.pip/pip.conf"), "/etc/xdg/pip/pip.conf", "/etc/pip.conf"):
    parser = configparser.RawConfigParser()
    parser.read(file)
    found += [parser.get(section, name, fallback=None) for section in ("install", "global")]
print(next(filter(None, found), ""))
PYTHON
}

get_uv() { # puts the uv of bootstrap.lock on PATH, unless it is there
  version=$(sed -n 's/^uv==\([^ ]*\).*/\1/p' bootstrap.lock)
  tools=$PWD/.tools/uv-$version
  [ "$(uv --version 2>/dev/null | cut -d' ' -f2)" != "$version" ] || return 0
  PATH=$tools:$PATH
  [ ! -x "$tools/uv" ] || return 0
  echo "dev: getting uv $version" >&2
  scratch=$(mktemp -d); trap 'rm -rf "$scratch"' EXIT
  find_pip
  PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_ROOT_USER_ACTION=ignore "$pip_python" "$pip" install -q --disable-pip-version-check --no-deps \
    --only-binary :all: --require-hashes --target "$scratch/uv" -r bootstrap.lock ||
    fail "pip found no uv $version (behind a mirror set PIP_INDEX_URL, behind a proxy https_proxy and PIP_CERT), or put it on PATH"
  mkdir -p "$tools"; mv "$scratch/uv/bin/uv" "$tools/uv.part"; mv "$tools/uv.part" "$tools/uv"
  rm -rf "$scratch"; trap - EXIT
}

find_pip() { # sets $pip_python and $pip: a pip that is there, the one in a virtual environment, or Debian's package, unpacked
  pip_python=$python pip=-mpip
  "$python" -m pip --version >/dev/null 2>&1 && return
  if "$python" -m venv "$scratch/venv" >/dev/null 2>&1; then pip_python=$scratch/venv/bin/python; return; fi
  (unpack_debian_pip) || fail "no pip to be had: as root apt-get install python3-venv, or put uv $version on PATH"
  pip=$(echo "$scratch"/usr/share/python-wheels/pip-*.whl)/pip
}

unpack_debian_pip() { # needs no root; with package lists of its own if the system has none or old ones
  mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial"; cd "$scratch"
  own="-o Dir::State::Lists=$scratch/lists -o Dir::Cache=$scratch/cache"
  apt-get -qq download python3-pip-whl 2>/dev/null || { apt-get -qq $own update && apt-get -qq $own download python3-pip-whl; }
  dpkg-deb -x python3-pip-whl_*.deb .
}

sync_packages() { # compares first: uv asks the index even when there is nothing to do
  .venv/bin/python -c '' 2>/dev/null || uv -q venv --clear --python "$python" .venv
  cat requirements.lock pyproject.toml plugins/lanes/*/pyproject.toml >.venv/wanted
  cmp -s .venv/wanted .venv/installed || { uv -q pip sync --python .venv requirements.lock && mv .venv/wanted .venv/installed; }
}
