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

# make_venv DIR: an environment with pip; Debian's python3 without ensurepip gets its package first.
make_venv() {
  [ -x "$1/bin/pip" ] && return 0
  local python; python=$(find_python)
  "$python" -m venv "$1" 2> /dev/null || { debian python3-venv && "$python" -m venv "$1"; }
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
    || fail "Building the dashboard needs Node 20 or newer: https://nodejs.org"
}

setup_dashboard() {
  need_node
  say "dashboard packages"
  done_once dashboard/node_modules/.done dashboard/package-lock.json -- npm --prefix dashboard ci --silent --no-audit --no-fund
}

build_dashboard() {
  setup_dashboard
  done_once dashboard/dist/.done $(git ls-files -co --exclude-standard dashboard) -- npm --prefix dashboard run --silent build
}

setup_browser() {
  command -v chromium > /dev/null || debian chromium fonts-dejavu-core
}
