# Sourced by the other scripts: brings a bare machine to where Enviromon runs. Each step is skipped once it is done.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '\033[2m· %s\033[0m\n' "$*" >&2; }
fail() { printf '\033[31m%s\033[0m\n' "$*" >&2; exit 1; }

# done_once STAMP FILE... -- COMMAND...: runs COMMAND unless it has run for these very files.
done_once() {
  local stamp=$1 files=() sum; shift
  while [ "$1" != -- ]; do files+=("$1"); shift; done; shift
  sum=$(cat "${files[@]}" | cksum)
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ] && return 0
  "$@" || return
  printf '%s' "$sum" > "$stamp"
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
    [ -n "$candidate" ] && command -v "$candidate" > /dev/null \
      && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null \
      && { printf '%s' "$candidate"; return; }
  done
  fail "Enviromon needs Python 3.11 or newer; none was found on PATH. Set PYTHON to one."
}

# find_version 3.13: the newest interpreter of that very version: PYTHON, on PATH, pyenv's or uv's. Fails without one.
find_version() {
  local candidate
  while read -r candidate; do
    "$candidate" -c "import sys, sysconfig as s
sys.exit('%d.%d' % sys.version_info[:2] != '$1' or bool(s.get_config_var('Py_GIL_DISABLED')))" 2> /dev/null \
      && { printf '%s' "$candidate"; return; }
  done < <(
    printf '%s\n' ${PYTHON:+"$PYTHON"} "python$1" python3
    command -v uv > /dev/null && uv python find --no-python-downloads "$1" 2> /dev/null
    printf '%s\n' "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python \
      "${XDG_DATA_HOME:-$HOME/.local/share}"/uv/python/cpython-"$1".*/bin/python | sort -rV
  )
  return 1
}

# make_venv DIR [PYTHON]: an environment with pip; Debian's python3 without ensurepip gets its package first.
make_venv() {
  [ -x "$1/bin/pip" ] && return 0
  local python; python=${2:-$(find_python)}
  "$python" -m venv "$1" 2> /dev/null || { debian python3-venv && "$python" -m venv "$1"; }
}

# side_venv NAME FILE [PYTHON]: .venv-NAME with what FILE locks and nothing else, for what cannot be in .venv.
side_venv() {
  say "Python packages ($1)"
  done_once ".venv-$1/.done" "$2" -- fresh_venv ".venv-$1" "$2" "${3:-}"
}

fresh_venv() { # DIR FILE [PYTHON]
  rm -rf "$1"
  make_venv "$1" "$3"
  "$1/bin/pip" install --quiet -r "$2"
}

debian() {
  command -v apt-get > /dev/null || fail "Please install: $*"
  local sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
  say "installing Debian packages: $*"
  $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "$@" > /dev/null
}

setup_python() { # runtime | dev
  make_venv .venv
  say "Python packages ($1)"
  done_once ".venv/.done-$1" "requirements/$1.txt" -- .venv/bin/pip install --quiet --require-hashes -r "requirements/$1.txt"
  done_once .venv/.done-self pyproject.toml -- .venv/bin/pip install --quiet --no-deps -e .
}

need_node() {
  command -v node > /dev/null && [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] \
    || fail "The dashboard and Azurite need Node 20 or newer: https://nodejs.org"
}

node_packages() { # DIR
  done_once "$1/node_modules/.done" "$1/package-lock.json" -- npm --prefix "$1" ci --silent --no-audit --no-fund
}

setup_dashboard() {
  need_node
  say "dashboard packages"
  node_packages dashboard
}

build_dashboard() {
  setup_dashboard
  done_once dashboard/dist/.done $(git ls-files -co --exclude-standard dashboard) -- npm --prefix dashboard run --silent build
}

setup_azurite() {
  need_node
  say "Azurite"
  node_packages tests/azurite
}

setup_browser() {
  command -v chromium > /dev/null || debian chromium fonts-dejavu-core
}

# What scripts/bench compares with. A broker that cannot be had is left out, and the table says so.
setup_peers() {
  need_node
  say "peers of the benchmarks"
  node_packages bench/peers
  local broker
  for broker in mosquitto nats-server; do
    PATH=$PATH:/usr/sbin command -v "$broker" > /dev/null || (debian "$broker") || say "$broker is not to be had here"
  done
}

setup_faketime() {
  compgen -G '/usr/lib/*/faketime/libfaketime.so.1' > /dev/null || debian libfaketime
}
