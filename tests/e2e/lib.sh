# SPDX-License-Identifier: Apache-2.0
# What the end-to-end tests share: a cluster of their own, waits with deadlines, looks for leftovers.
# Sourced by bash scripts. Every process a test starts carries E2E_ID in its environment, so that
# they are found, and found only by this test, wherever they were re-parented to.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../deploy/lib.sh"
. "$top/deploy/guest.conf"

bin=${PANGEA_BIN:-$build_dir/release/bin}
kernel=$guest_dir/vmlinuz
initrd=$guest_dir/initramfs.cpio
# Nothing here takes a tenth of these on an idle machine; they turn a hang into a failure.
command_limit_s=60
boot_limit_s=600
end_limit_s=60

name=$(basename "$0")
[ -x "$bin/pangea" ] || die "$bin/pangea is missing: build it first"
work=$(mktemp -d "${TMPDIR:-/tmp}/pangea-e2e.XXXXXX")
export E2E_ID=$work
export TMPDIR=$work/tmp
mkdir "$TMPDIR"
state=$work/state
console=$work/console.log
keys=/dev/null

fail() {
	echo "FAIL $name: $*" >&2
	exit 1
}

note() { step "$name: $*"; }

# pangea ARGUMENT...: one command of the command line, with a deadline and this test's cluster.
pangea() { timeout -k 5 "$command_limit_s" "$bin/pangea" "$@" --state-dir "$state" </dev/null; }

# our_pids [PROGRAM]: the processes of this test, all or those of one program, without its shells.
our_pids() {
	local dir pid comm
	for dir in /proc/[0-9]*; do
		pid=${dir#/proc/}
		{ read -r comm <"$dir/comm"; } 2>/dev/null || continue
		case $comm in
		pangea | pangead | pangea-coordina | pangea-vmm | qemu-storage-da | passt | passt.avx2 | virtiofsd) ;;
		*) continue ;;
		esac
		[ -z "${1-}" ] || [ "$comm" = "${1:0:15}" ] || continue
		grep -zqxF "E2E_ID=$E2E_ID" "$dir/environ" 2>/dev/null || continue
		# A process that has ended and waits for its parent holds nothing any more.
		grep -q '^State:.*Z' "$dir/status" 2>/dev/null || echo "$pid"
	done
}

# daemon_of NODE: the daemon of that node, by its own command line.
daemon_of() {
	local pid
	for pid in $(our_pids pangead); do
		if tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qE -- "[ =]$1( |\$)"; then
			echo "$pid"
			return
		fi
	done
	fail "no daemon of $1"
}

# slices_of NODE: the processes of the slices on that node, children of its daemon.
slices_of() {
	local pid daemon
	daemon=$(daemon_of "$1")
	for pid in $(our_pids pangea-vmm); do
		if grep -qE "^PPid:[[:space:]]+$daemon\$" "/proc/$pid/status" 2>/dev/null; then
			echo "$pid"
		fi
	done
}

# slice_of NODE: the process of the one slice there.
slice_of() {
	local pids
	pids=$(slices_of "$1")
	[[ $pids =~ ^[0-9]+$ ]] || fail "not one slice on $1: '$pids'"
	echo "$pids"
}

# wait_until SECONDS WHAT COMMAND...: tries until the command succeeds; fails at the deadline.
wait_until() {
	local limit=$1 what=$2 deadline=$((SECONDS + $1))
	shift 2
	until "$@"; do
		[ "$SECONDS" -lt "$deadline" ] || fail "$what: not within $limit s"
		sleep 0.2
	done
}

# Not by a pipe: grep goes away at the first match, and who still writes then fails, and the pipe with him.
has_line() { [ -r "$2" ] && grep -qE -- "$1" <(tr -d '\r' <"$2"); }

# wait_line REGEX [SECONDS]: until the console shows it; fails at once when the run has ended.
wait_line() {
	local deadline=$((SECONDS + ${2:-$boot_limit_s}))
	until has_line "$1" "$console"; do
		kill -0 "$run_pid" 2>/dev/null || has_line "$1" "$console" ||
			fail "the run ended before the console showed '$1'"
		[ "$SECONDS" -lt "$deadline" ] || fail "the console never showed '$1'"
		sleep 0.2
	done
}

expect_line() { has_line "$1" "${2:-$console}" || fail "no line '$1' in ${2:-the console}"; }

# cluster_up NODES CPUS MEM [OPTION]...: on loopback; with E2E_HOSTS in the environment each node on a host of its
# own (hosts.sh).
cluster_up() {
	if [ -n "${E2E_HOSTS-}" ]; then
		. "$(dirname "${BASH_SOURCE[0]}")/hosts.sh"
		hosts_cluster_up "$@"
		return
	fi
	pangea cluster up --loopback "$1" --cpus "$2" --mem "$3" "${@:4}" >"$work/up.log" 2>&1 ||
		fail "cluster up: $(cat "$work/up.log")"
}

# run_start WORDS ARGUMENT...: `pangea run` in the background with these words for the guest's
# command line; console in $console, sentences in $work/run.err, process in $run_pid. $keys is what is typed.
run_start() {
	local words=$1
	shift
	: >"$console"
	"$bin/pangea" run --state-dir "$state" --kernel "$kernel" --initrd "$initrd" \
		--append "$guest_cmdline $words" "$@" <"$keys" >"$console" 2>"$work/run.err" &
	run_pid=$!
}

# run_end SECONDS: waits for it and sets $run_code.
run_end() {
	wait_until "$1" "the end of pangea run" run_ended
	run_code=0
	wait "$run_pid" || run_code=$?
}
run_ended() { ! kill -0 "$run_pid" 2>/dev/null; }

# expect_code CODE: the exit code of the last run.
expect_code() { [ "$run_code" -eq "$1" ] || fail "pangea run ended with $run_code, not $1"; }

# expect_end CODE REGEX [ERR]: so it ended, and its last sentence is that its VM ended like this.
expect_end() {
	local err=${3:-$work/run.err}
	expect_code "$1"
	tail -n 1 "$err" | grep -qE -- "^pangea: VM [a-z0-9]+ ended: $2\$" ||
		fail "the last sentence is not '$2': $(tail -n 1 "$err")"
}

# expect_fails CODE REGEX COMMAND...: it ends with the code, says one sentence that matches, and
# nothing that looks like a crash.
expect_fails() {
	local code=$1 regex=$2 got=0
	shift 2
	"$@" >"$work/out" 2>"$work/err" </dev/null || got=$?
	[ "$got" -eq "$code" ] || fail "'$*' ended with $got, not $code: $(tail -n 5 "$work/err")"
	grep -qiE -- "$regex" "$work/err" || fail "'$*' does not say '$regex': $(tail -n 5 "$work/err")"
	if grep -qE 'invariant|AddressSanitizer|runtime error|Segmentation' "$work/err"; then
		fail "'$*' crashed: $(tail -n 5 "$work/err")"
	fi
}

no_process() { [ -z "$(our_pids "${1-}")" ]; }

# expect_vm_gone: every slice process has ended, though the cluster may still be up.
expect_vm_gone() { wait_until "$end_limit_s" "the end of every pangea-vmm" no_process pangea-vmm; }

# expect_all_free NODES: the coordinator has no VM, and so many nodes with all they offer.
expect_all_free() {
	pangea vms --json >"$work/vms.json" || fail "pangea vms"
	pangea nodes --json >"$work/nodes.json" || fail "pangea nodes"
	python3 - "$work/vms.json" "$work/nodes.json" "$1" <<-'PY' || fail "the coordinator's accounts"
		import json, sys
		vms, nodes = (json.load(open(name)) for name in sys.argv[1:3])
		assert not vms, vms
		assert len(nodes) == int(sys.argv[3]), nodes
		for node in nodes:
		    assert (node["cpus_free"], node["mem_free_bytes"]) == (node["cpus"], node["mem_bytes"]), node
	PY
}

# expect_nothing_left: after the cluster went down, no process, socket or temporary file of it is.
expect_nothing_left() {
	if [ -n "${E2E_HOSTS-}" ]; then
		hosts_down
	else
		pangea cluster down >"$work/down.log" 2>&1 || fail "cluster down: $(cat "$work/down.log")"
	fi
	wait_until "$end_limit_s" "the end of every process" no_process
	local left
	left=$(find "$state" "$TMPDIR" \( -type s -o -type p -o -name '*.pid' \) 2>/dev/null || true)
	[ -z "$left" ] || fail "left behind: $left"
	left=$(find "$TMPDIR" -mindepth 1 2>/dev/null || true)
	[ -z "$left" ] || fail "temporary files left behind: $left"
}

# On any end: what a failure left running is killed, one by one; its logs are shown.
clean_up() {
	local code=$? pid
	trap - EXIT
	if [ "$code" -ne 0 ] && [ "$code" -ne 77 ]; then
		show_logs
	fi
	for pid in $(our_pids); do
		kill -9 "$pid" 2>/dev/null || true
	done
	if declare -F clean_up_more >/dev/null; then clean_up_more; fi
	rm -rf "$work"
	exit "$code"
}

show_logs() {
	local file
	for file in "$console" "$work"/*.err "$work"/*.log "$state"/*.log "$state"/*/*.log; do
		[ -s "$file" ] || continue
		echo "--- ${file#"$work"/}"
		tail -n 30 "$file"
	done >&2
}
trap clean_up EXIT
trap 'exit 143' INT TERM HUP
