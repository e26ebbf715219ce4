# SPDX-License-Identifier: Apache-2.0
# What the lab VM's init and the sets share; sourced by busybox sh inside the lab VM, never run.
#
# /lab/settings (written by deploy/lab/run): set, limit_s, cpu, force, slices. /lab/words: one argument a line.

. /lab/settings
out=/lab/out
state=/tmp/cluster

# note TEXT...: one line with the seconds since the lab VM's start.
note() {
	read -r up _ </proc/uptime
	printf '[lab %3ds] %s\n' "${up%.*}" "$*"
}

fail() {
	note "FAIL: $*"
	exit 1
}

# has_line REGEX FILE
has_line() { tr -d '\r' <"$2" 2>/dev/null | grep -qE -- "$1"; }

# cluster_up NODES CPUS MIB: daemons on loopback that each offer these.
cluster_up() {
	timeout -k 5 120 pangea cluster up --loopback "$1" --cpus "$2" --mem "$3M" --state-dir "$state" \
		>"$out/cluster.log" 2>&1 || fail "cluster up: $(cat "$out/cluster.log")"
}

# cluster_logs NAME: keeps the daemons' logs as NAME.*.
cluster_logs() {
	for log in "$state"/*.log "$state"/*/*.log; do
		[ -s "$log" ] && cp "$log" "$out/$1.${log##*/}"
	done
	return 0
}

# cluster_down NAME: stops the daemons and keeps their logs.
cluster_down() {
	timeout -k 5 120 pangea cluster down --state-dir "$state" >>"$out/cluster.log" 2>&1 ||
		fail "cluster down: $(cat "$out/cluster.log")"
	cluster_logs "$1"
	rm -rf "$state"
}

# vm_watch NAME: shows the VM's console as it comes, with the lab's clock: what hangs is seen while it does.
vm_watch() {
	shown=0
	while sleep 5; do
		lines=$(wc -l <"$out/$1.console")
		[ "$lines" -gt "$shown" ] || continue
		note "$1:"
		tail -n +$((shown + 1)) "$out/$1.console" | head -n $((lines - shown)) | tr -d '\r' | cut -c 1-120
		shown=$lines
	done
}

# vm_run NAME SECONDS ARGUMENT...: `pangea run` to its end; console in NAME.console, sentences in
# NAME.err, exit code in $run_code.
vm_run() {
	name=$1 seconds=$2
	shift 2
	run_code=0
	vm_watch "$name" &
	watch=$!
	timeout -k 10 "$seconds" pangea run --state-dir "$state" --cpu "$cpu" $force --stats "$@" \
		</dev/null >"$out/$name.console" 2>"$out/$name.err" || run_code=$?
	kill "$watch" 2>/dev/null
	wait "$watch" 2>/dev/null
}

# vm_show NAME: the end of what a VM said, for the log.
vm_show() {
	tail -n 5 "$out/$1.console"
	tail -n 60 "$out/$1.err"
}
