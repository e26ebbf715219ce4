# SPDX-License-Identifier: Apache-2.0
# What the lab VM's init and the sets share; sourced by busybox sh inside the lab VM, never run.
#
# /lab/settings (written by deploy/lab/run): set, limit_s, cpu, force, slices, parts, transport. /lab/words: one
# argument a line.

. /lab/settings
out=/lab/out
state=/tmp/cluster
# Which cluster `pangea run` is to use.
where="--state-dir $state"
host=$(sed -n 's/.*\blab\.host=\([12]\).*/\1/p' /proc/cmdline)

# note TEXT...: one line with the seconds since the lab VM's start.
note() {
	read -r up _ </proc/uptime
	printf '[lab %3ds] %s\n' "${up%.*}" "$*"
}

fail() {
	note "FAIL: $*"
	exit 1
}

# has_part NAME: whether this lab VM has it.
has_part() { case " $parts " in *" $1 "*) ;; *) return 1 ;; esac; }

# address_of HOST: on the link of a pair; the first is also that of one lab VM with RDMA.
address_of() { echo "10.77.0.$1"; }

# load_part NAME: its modules, but for those that another part has loaded.
load_part() {
	while read -r module; do
		name=$(echo "${module%.ko}" | tr - _)
		grep -q "^$name " /proc/modules && continue
		options=
		[ "$name" != kvm_amd ] || options=$(sed -n 's/.*\blab\.npt=\([01]\).*/npt=\1/p' /proc/cmdline)
		insmod "/lab/modules/$module" $options && continue
		echo "lab: $module does not load"
		return 1
	done <"/lab/modules/$1"
}

# wait_until SECONDS WHAT COMMAND...: tries until the command succeeds; fails at the deadline.
wait_until() {
	until_s=$(($(date +%s) + $1))
	what=$2
	shift 2
	until "$@"; do
		[ "$(date +%s)" -lt "$until_s" ] || fail "$what: not in time"
		sleep 0.2
	done
}

# has_line REGEX FILE
has_line() { tr -d '\r' <"$2" 2>/dev/null | grep -qE -- "$1"; }

# cluster_up NODES CPUS MIB: daemons on loopback that each offer these; with RDMA, at the device's address.
cluster_up() {
	at=
	! has_part rdma || at="--data-address $(address_of 1)"
	timeout -k 5 120 pangea cluster up --loopback "$1" --cpus "$2" --mem "$3M" $at --state-dir "$state" \
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
# NAME.err, what is known of its slices in NAME.json, exit code in $run_code.
vm_run() {
	name=$1 seconds=$2
	shift 2
	run_code=0
	vm_watch "$name" &
	watch=$!
	# The emulated SVM of QEMU 7.2 does not intercept XSETBV: KVM never hears which parts of XSAVE's image a guest enables.
	model=
	[ "$cpu" != kvm ] || model="--cpu-model v2"
	timeout -k 10 "$seconds" pangea run $where --cpu "$cpu" $model $force --transport "$transport" --stats \
		--stats-json "$out/$name.json" "$@" </dev/null >"$out/$name.console" 2>"$out/$name.err" || run_code=$?
	kill "$watch" 2>/dev/null
	wait "$watch" 2>/dev/null
}

# links_expect NAME KIND SLICES: each slice of that run had a link of this kind (shm, tcp, tls, ktls, rdma) to each
# other one, and none of another kind.
links_expect() {
	links=$(tr ',{}' '\n' <"$out/$1.json" | sed -n 's/.*"links_\([a-z]*\)": *\([0-9]*\).*/\1 \2/p')
	[ "$(echo "$links" | grep -c "^$2 $(($3 - 1))\$")" -eq "$3" ] ||
		fail "$1: not every link is by $2: $(echo "$links" | grep -v ' 0$' | tr '\n' ' ')"
	[ "$(echo "$links" | grep -cv ' 0$')" -eq "$3" ] ||
		fail "$1: links of several kinds: $(echo "$links" | grep -v ' 0$' | tr '\n' ' ')"
}

# vm_show NAME: the end of what a VM said, for the log.
vm_show() {
	tail -n 5 "$out/$1.console"
	tail -n 60 "$out/$1.err"
}
