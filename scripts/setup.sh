# Sets up a checkout: Node 24 and the libraries by npm, bubblewrap by the distribution's packages. Read by
# scripts/catalog and scripts/test. Everything it says goes to standard error; CATALOG_NO_INSTALL=1 forbids it
# to install anything. Costs two milliseconds when all is there.

catalog_say() { printf 'catalog: %s\n' "$*" >&2; }

# What is installed is what the lockfile says: the stamp is a copy of the lockfile that was installed.
catalog_is_set_up() {
  cmp -s "$1/package-lock.json" "$1/node_modules/.catalog-lockfile" && [ -x "$1/node_modules/.bin/node" ]
}

# catalog_setup ROOT: returns once node_modules holds what the lockfile says.
catalog_setup() {
  catalog_is_set_up "$1" && return 0
  if [ "${CATALOG_NO_INSTALL:-}" = 1 ]; then
    # Somebody may have run npm themselves.
    if [ -x "$1/node_modules/.bin/node" ] && [ "$1/node_modules/.package-lock.json" -nt "$1/package-lock.json" ]; then
      return 0
    fi
    catalog_say "the libraries and Node.js 24 are missing or out of date, and CATALOG_NO_INSTALL=1 forbids to install them."
    catalog_say "Run \`npm ci\` in $1, or unset CATALOG_NO_INSTALL."
    return 10
  fi
  if ! command -v npm >/dev/null 2>&1; then
    catalog_say "npm is missing. Install Node.js 20 or later with npm, then try again."
    return 10
  fi
  catalog_locked "$1" catalog_install "$1"
}

# catalog_locked ROOT COMMAND…: one at a time in this checkout; who waited finds the work done.
catalog_locked() {
  if command -v flock >/dev/null 2>&1; then
    # The lock is on a file that is always there, and ends with the process that holds it, however it ends.
    (
      flock -n 9 || { catalog_say "waiting for another set-up of this checkout…" && flock 9; } || exit 10
      shift
      "$@"
    ) 9<"$1/package.json"
    return
  fi
  catalog_lock=$1/.setup-lock
  until mkdir "$catalog_lock" 2>/dev/null; do
    catalog_owner=$(cat "$catalog_lock/pid" 2>/dev/null || echo)
    if [ -n "$catalog_owner" ] && ! kill -0 "$catalog_owner" 2>/dev/null; then
      # Left by a process that was killed. Only one renames it away; the others find it gone.
      mv "$catalog_lock" "$catalog_lock.stale.$$" 2>/dev/null && rm -rf "$catalog_lock.stale.$$"
    else
      sleep 1
    fi
  done
  echo $$ >"$catalog_lock/pid"
  shift
  catalog_status=0
  "$@" || catalog_status=$?
  rm -rf "$catalog_lock"
  return "$catalog_status"
}

catalog_install() {
  catalog_is_set_up "$1" && return 0
  catalog_say "installing the libraries and Node.js 24 into $1/node_modules (npm, from package-lock.json)…"
  cp "$1/package-lock.json" "$1/node_modules.lockfile.$$"
  catalog_npm_ok=no
  # `npm ci` begins by removing what is there, so only where there is nothing. It fails where the registry lacks
  # another platform's binaries; `npm install` gets past that, and may then rewrite the lockfile: it is put back.
  # What `npm ci` has to say is of no use then: the messages of `npm install` are the ones to read.
  if [ ! -d "$1/node_modules" ] && catalog_npm "$1" ci 2>/dev/null; then
    catalog_npm_ok=yes
  elif catalog_npm "$1" install; then
    catalog_npm_ok=yes
  fi
  cmp -s "$1/node_modules.lockfile.$$" "$1/package-lock.json" || cp "$1/node_modules.lockfile.$$" "$1/package-lock.json"
  if [ "$catalog_npm_ok" = no ]; then
    rm -f "$1/node_modules.lockfile.$$"
    catalog_say "npm could not install the libraries; its messages are above. Check the network, then try again."
    return 10
  fi
  if ! "$1/node_modules/.bin/node" --version >/dev/null 2>&1; then
    rm -f "$1/node_modules.lockfile.$$"
    catalog_say "there is no Node.js 24 for $(uname -s) $(uname -m) among the packages that npm installed."
    return 10
  fi
  # Last, and whole: it says that everything before it succeeded.
  mv "$1/node_modules.lockfile.$$" "$1/node_modules/.catalog-lockfile"
  catalog_say "the libraries are installed."
}

# The checks of the tests are development dependencies, Node.js an optional one: whatever the user's npm leaves out
# by default, this takes all. The libraries ship their binaries, so that no install script needs to run.
catalog_npm() {
  # One that hangs holds the lock: whoever waits for it would wait for ever.
  catalog_limit=
  if timeout --foreground 1 true 2>/dev/null; then catalog_limit='timeout --foreground -k 10 900'; fi
  # shellcheck disable=SC2086 # the words are meant to be split
  (cd "$1" && $catalog_limit npm "$2" --include=dev --include=optional --ignore-scripts --no-audit --no-fund --loglevel=error) 9<&- >&2
}

# catalog_setup_sandbox ROOT: bubblewrap, where it is missing and may be installed; never fails.
catalog_setup_sandbox() {
  [ "$(uname -s)" = Linux ] || return 0
  command -v bwrap >/dev/null 2>&1 && return 0
  if [ "${CATALOG_NO_INSTALL:-}" != 1 ] && [ ! -e "$1/node_modules/.catalog-no-bubblewrap" ]; then
    catalog_locked "$1" catalog_install_bubblewrap "$1" && return 0
  fi
  catalog_say "bubblewrap is missing: packages cannot be executed on this machine. Install it with: $(catalog_bubblewrap_command)"
}

catalog_install_bubblewrap() {
  command -v bwrap >/dev/null 2>&1 && return 0
  catalog_as_root=
  if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || return 1
    catalog_as_root='sudo -n'
  fi
  catalog_say "installing bubblewrap, the sandbox for executions ($(catalog_bubblewrap_command))…"
  # shellcheck disable=SC2086 # the words are meant to be split
  (
    if command -v apt-get >/dev/null 2>&1; then
      export DEBIAN_FRONTEND=noninteractive
      $catalog_as_root apt-get install -y -q --no-install-recommends bubblewrap ||
        { $catalog_as_root apt-get update -q && $catalog_as_root apt-get install -y -q --no-install-recommends bubblewrap; }
    else
      $catalog_as_root $(catalog_bubblewrap_command)
    fi
  ) </dev/null 9<&- >&2 && command -v bwrap >/dev/null 2>&1 && return 0
  # Not again at every start.
  : >"$1/node_modules/.catalog-no-bubblewrap"
  return 1
}

catalog_bubblewrap_command() {
  if command -v apt-get >/dev/null 2>&1; then echo "apt-get install -y bubblewrap"
  elif command -v dnf >/dev/null 2>&1; then echo "dnf install -y bubblewrap"
  elif command -v apk >/dev/null 2>&1; then echo "apk add bubblewrap"
  elif command -v pacman >/dev/null 2>&1; then echo "pacman -S --noconfirm bubblewrap"
  elif command -v zypper >/dev/null 2>&1; then echo "zypper --non-interactive install bubblewrap"
  else echo "your distribution's package manager (package bubblewrap)"
  fi
}
