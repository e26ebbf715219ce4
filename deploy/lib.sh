# SPDX-License-Identifier: Apache-2.0
# Shared by the scripts of deploy/ and tests/: paths, step lines with elapsed time, sizes, locks.
# Sourced, never run. It expects bash with `set -euo pipefail`.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build_dir=$top/build
# Installed, as by a package, there is no tree to build in.
[ -e "$top/CMakeLists.txt" ] || build_dir=${XDG_CACHE_HOME:-$HOME/.cache}/pangea
guest_dir=${PANGEA_GUEST_DIR:-$build_dir/guest}

# step TEXT...: one line that says what happens now, with the seconds since the first script's start.
export PANGEA_STEP_START_S=${PANGEA_STEP_START_S:-$EPOCHSECONDS}
step() { printf '[%3ds] %s\n' $((EPOCHSECONDS - PANGEA_STEP_START_S)) "$*" >&2; }

# die TEXT...: one sentence on standard error, exit code 1.
die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# as_root COMMAND...: runs it as root, through sudo where need be.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "root is needed for '$1': run as root or install sudo"
	fi
}

# size_mib SIZE: a size such as 1G, 512M or 1048576K as a number of MiB on standard output.
size_mib() {
	local number=${1%[KkMmGg]} unit=${1##*[0-9]}
	[[ $number =~ ^[1-9][0-9]{0,8}$ ]] || return 1
	case $unit in
	[Gg]) echo $((number * 1024)) ;;
	[Mm]) echo "$number" ;;
	[Kk]) [ $((number % 1024)) -eq 0 ] && echo $((number / 1024)) ;;
	*) return 1 ;;
	esac
}

# debian_mirror: where this machine's own apt takes Debian from; nothing where it does not.
debian_mirror() {
	apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 2>/dev/null |
		sed -n 1p
}

# lock_take FILE: holds an exclusive lock until the script ends; waits at most ten minutes, which is
# longer than any one step of another start takes.
lock_take() {
	mkdir -p "$(dirname "$1")"
	exec 9>"$1"
	flock -w 600 9 || die "another start holds $1"
}

# lock_drop: gives the lock back, so that what runs next does not inherit it.
lock_drop() { exec 9>&-; }
