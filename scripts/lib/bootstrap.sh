# Sourced by the programs in scripts/. Gives a bare Debian 12 what they need, and nothing it has already:
#
#   bootstrap system    Debian's packages for two Slurm clusters, then the Python environment; needs root
#   bootstrap python    the Python environment alone
#   bootstrap … extras  a second environment, too, with the extras that the first one has no place for
#
# Sets CHECKOUT, STATE, PYTHON and EXTRAS_PYTHON. Everything it writes, apart from Debian's packages, is below STATE.
# An interrupted run is made good by the next one; runs at the same time wait for each other.

# shellcheck shell=bash
CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P) || exit 1
STATE=$CHECKOUT/.state
PYTHON=$STATE/venv/bin/python
EXTRAS_PYTHON=$STATE/extras/bin/python
# su and cron leave out sbin; a pyenv in front would give job users a Python they can't reach
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH PYTHONPYCACHEPREFIX=$STATE/cache/python PYTHONPATH=$CHECKOUT/scripts/lib
unset PYTHONHOME PYTHONSTARTUP PYTHONDONTWRITEBYTECODE VIRTUAL_ENV

BOOTSTRAP_LOG=$STATE/bootstrap.log
BOOTSTRAP_PACKAGES=(
  munge slurmctld slurmd slurmdbd slurmrestd slurm-client
  slurm-wlm-jwt-plugin slurm-wlm-mysql-plugin slurm-wlm-basic-plugins
  mariadb-server-core mariadb-client-core
  python3 python3-venv ca-certificates util-linux procps
)
BOOTSTRAP_GUARD=/usr/sbin/policy-rc.d
BOOTSTRAP_GUARD_LINE='# made by the bootstrap of qslurm so that no daemon starts by itself; it removes this file again'

bootstrap() {
  if [[ $1 == system && $EUID -ne 0 ]]; then
    echo "error: the daemons run as several users: run this as root or with sudo." >&2
    exit 1
  fi
  if ! mkdir -p "$STATE/cache" 2>/dev/null || [[ ! -w $STATE || ! -w $STATE/cache ]]; then
    echo "error: $(id -un) cannot write to $STATE: run this as root or with sudo." >&2
    exit 1
  fi
  # a subshell, so that no daemon inherits the lock
  (
    if ! flock -n 9; then
      echo "  waiting for another program of this checkout to finish its setup" >&2
      flock 9
    fi
    set -e
    : >"$BOOTSTRAP_LOG"
    if [[ $1 == system ]]; then bootstrap_packages; fi
    bootstrap_environment "$STATE/venv" "making the Python environment" c2 run examples group:dev
    bootstrap_project
    if [[ ${2-} == extras ]]; then
      bootstrap_environment "$STATE/extras" "making the environment of the extras" run qiskit quantum-inspire group:tests
    fi
  ) 9>"$STATE/bootstrap.lock" || exit 1
}

# bootstrap_step WHAT COMMAND...: one line with the seconds it took; the end of its output when it fails
bootstrap_step() {
  local what=$1 began=$EPOCHREALTIME status=0
  shift
  printf '  %s ' "$what" >&2
  "$@" >>"$BOOTSTRAP_LOG" 2>&1 </dev/null || status=$?
  if [[ $status -ne 0 ]]; then
    printf 'failed. The end of %s:\n' "$BOOTSTRAP_LOG" >&2
    tail -n 20 "$BOOTSTRAP_LOG" | sed 's/^/    /' >&2
    echo "error: $what failed, see above. Check the network and the disk space, and run this again; it continues from here." >&2
    exit 1
  fi
  printf '(%d s)\n' "$(((${EPOCHREALTIME/[.,]/} - ${began/[.,]/} + 500000) / 1000000))" >&2
}

# --- Debian's packages ---

bootstrap_packages() {
  local missing
  bootstrap_remove_guard # left by a run that was killed
  missing=$(bootstrap_missing_packages)
  if [[ -z $missing ]]; then return; fi
  if ! command -v apt-get >/dev/null; then
    echo "error: this host has no apt-get: the testbed needs Debian 12." >&2
    exit 1
  fi
  export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
  bootstrap_wait_for_apt
  bootstrap_step "updating the list of Debian packages" apt-get -q -o DPkg::Lock::Timeout=600 update
  trap bootstrap_remove_guard EXIT
  bootstrap_make_guard
  # shellcheck disable=SC2086 # one word for each package
  bootstrap_step "installing $(wc -w <<<"$missing") Debian packages" bootstrap_install $missing
  bootstrap_remove_guard
  trap - EXIT
}

bootstrap_missing_packages() {
  local installed name
  installed=" $(dpkg-query -W -f '${Package}:${db:Status-Status} ' "${BOOTSTRAP_PACKAGES[@]}" 2>/dev/null || true)"
  for name in "${BOOTSTRAP_PACKAGES[@]}"; do
    if [[ $installed != *" $name:installed "* ]]; then printf '%s ' "$name"; fi
  done
}

# A fresh Debian updates itself soon after it has started, and apt-get does not wait for each of these locks.
bootstrap_wait_for_apt() {
  local deadline=$((SECONDS + 600)) told=
  while bootstrap_apt_is_busy && ((SECONDS < deadline)); do
    if [[ -z $told ]]; then echo "  waiting for another package manager" >&2; fi
    told=1
    sleep 0.5
  done
}

bootstrap_apt_is_busy() {
  local file inode
  for file in /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock /var/cache/apt/archives/lock; do
    if inode=$(stat -c %i "$file" 2>/dev/null) && grep -q "POSIX.*:$inode " /proc/locks; then return 0; fi
  done
  return 1
}

bootstrap_install() {
  # the second try is for an installation that was interrupted, ours or another's
  bootstrap_apt_install "$@" || { dpkg --configure -a && bootstrap_apt_install "$@"; }
}

bootstrap_apt_install() {
  apt-get -y -q -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confold --no-install-recommends install "$@"
}

bootstrap_make_guard() {
  if [[ ! -e $BOOTSTRAP_GUARD ]]; then
    printf '#!/bin/sh\n%s\nexit 101\n' "$BOOTSTRAP_GUARD_LINE" >"$BOOTSTRAP_GUARD.new"
    chmod 755 "$BOOTSTRAP_GUARD.new"
    mv "$BOOTSTRAP_GUARD.new" "$BOOTSTRAP_GUARD"
  fi
}

bootstrap_remove_guard() {
  if [[ -f $BOOTSTRAP_GUARD ]] && grep -qxF "$BOOTSTRAP_GUARD_LINE" "$BOOTSTRAP_GUARD"; then rm -f "$BOOTSTRAP_GUARD"; fi
}

# --- Python ---

# bootstrap_environment FOLDER WHAT NAME...: a virtual environment with the named extras and groups of pyproject.toml
bootstrap_environment() {
  local folder=$1 what=$2 wanted
  shift 2
  if ! /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "error: /usr/bin/python3 is too old: Python 3.11 or newer is required." >&2
    exit 1
  fi
  wanted=$( (/usr/bin/python3 -VV && /usr/bin/python3 "$CHECKOUT/scripts/lib/requirements.py" "$@") | sha256sum)
  if [[ -x $folder/bin/python && $(cat "$folder/.dependencies" 2>/dev/null) == "$wanted" ]]; then return; fi
  if ! /usr/bin/python3 -c 'import ensurepip' 2>/dev/null; then
    echo "error: Python's venv module is missing: run apt-get install python3-venv, or run this as root." >&2
    exit 1
  fi
  rm -rf "$folder"
  bootstrap_step "$what" bootstrap_new_environment "$folder" "$@"
  printf '%s\n' "$wanted" >"$folder/.dependencies"
}

bootstrap_new_environment() {
  local folder=$1
  shift
  /usr/bin/python3 "$CHECKOUT/scripts/lib/requirements.py" "$@" >"$folder.txt" &&
    (umask 022 && /usr/bin/python3 -m venv "$folder" && bootstrap_pip "$folder/bin/python" install -r "$folder.txt")
}

# bootstrap_pip PYTHON ARGUMENT...
bootstrap_pip() {
  local python=$1
  shift
  "$python" -m pip --cache-dir "$STATE/cache/pip" --disable-pip-version-check --no-input "$@"
}

# The project is copied into the environment: job users can read it there, wherever the checkout lies.
bootstrap_project() {
  local now
  now=$(bootstrap_fingerprint)
  if [[ $(cat "$STATE/venv/.project" 2>/dev/null) == "$now" ]]; then return; fi
  bootstrap_step "installing the project" bootstrap_install_project
  printf '%s\n' "$now" >"$STATE/venv/.project"
}

bootstrap_install_project() {
  (umask 022 && bootstrap_pip "$PYTHON" install --no-index --no-deps --no-build-isolation --force-reinstall "$CHECKOUT")
}

bootstrap_fingerprint() {
  (cd "$CHECKOUT" && find pyproject.toml README.md qslurm templates deploy -type f -not -path '*/__pycache__/*' -print0 2>/dev/null |
    LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum)
}
