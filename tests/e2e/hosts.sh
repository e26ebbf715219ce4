# SPDX-License-Identifier: Apache-2.0
# Hosts of a test's own: network namespaces on one bridge, each with an IPv4 and an IPv6 address; the
# first one has the cluster's authority, and all join by tokens. Sourced by bash scripts, after lib.sh.
#
# Host N (0, 1, ...) has 192.0.2.N+1 and 2001:db8::N+1; its cable is the interface "cable" inside and
# $hosts_prefix-N outside. The addresses are those set aside for documentation: nothing leaves the machine.

hosts_prefix=pg$$
hosts_count=0
pki=$work/pki

host_ip4() { echo "192.0.2.$(($1 + 1))"; }
host_ip6() { echo "2001:db8::$(($1 + 1))"; }

# hosts_possible: skips the test where namespaces cannot be made.
hosts_possible() {
	[ "$(id -u)" -eq 0 ] || skip "network namespaces need root"
	command -v ip >/dev/null || skip "there is no ip (package iproute2)"
	ip netns add "$hosts_prefix-probe" 2>/dev/null || skip "network namespaces are refused here"
	ip netns del "$hosts_prefix-probe"
}
skip() {
	echo "SKIP $name: $*"
	exit 77
}

# hosts_make N: the namespaces, their cables, and a bridge in a namespace that is the switch.
hosts_make() {
	local i switch=$hosts_prefix-s
	ip netns add "$switch"
	ip -n "$switch" link add bridge type bridge forward_delay 0
	ip -n "$switch" link set bridge up
	for i in $(seq 0 $(($1 - 1))); do
		ip netns add "$hosts_prefix-$i"
		hosts_count=$((i + 1))
		ip -n "$hosts_prefix-$i" link set lo up
		ip -n "$hosts_prefix-$i" link add cable type veth peer name "port$i" netns "$switch"
		ip -n "$hosts_prefix-$i" addr add "$(host_ip4 "$i")/24" dev cable
		ip -n "$hosts_prefix-$i" addr add "$(host_ip6 "$i")/64" dev cable nodad
		ip -n "$hosts_prefix-$i" link set cable up
		ip -n "$switch" link set "port$i" master bridge up
	done
	"$bin/pangea" pki init --pki "$pki" >"$work/pki.log"
}

# At the end, whatever it is (clean_up of lib.sh).
clean_up_more() {
	local i
	for i in $(seq 0 $((hosts_count - 1))); do
		ip netns del "$hosts_prefix-$i" 2>/dev/null || true
	done
	ip netns del "$hosts_prefix-s" 2>/dev/null || true
}

# cable_cut N, cable_mend N: between host N and the switch.
cable_cut() { ip -n "$hosts_prefix-s" link set "port$1" down; }
cable_mend() { ip -n "$hosts_prefix-s" link set "port$1" up; }

# on_host N COMMAND...: in that host's network.
on_host() {
	local host=$1
	shift
	ip netns exec "$hosts_prefix-$host" "$@"
}

# hosts_cluster FAMILY CPUS MEM [ARGUMENT...]: a coordinator on host 0 and a daemon on each host, which
# reach each other by addresses of the family (4 or 6). Further arguments go to all of them.
hosts_cluster() {
	local family=$1 cpus=$2 mem=$3 i ip
	shift 3
	coordinator=$(host_ip4 0):7420
	[ "$family" = 4 ] || coordinator="[$(host_ip6 0)]:7420"
	mkdir -p "$state"
	on_host 0 "$bin/pangea-coordinator" --listen "$coordinator" --pki "$pki" --ca "$pki" "$@" \
		</dev/null >"$state/coordinator.log" 2>&1 &
	for i in $(seq 0 $((hosts_count - 1))); do
		ip=$("host_ip$family" "$i")
		wait_until "$command_limit_s" "host $i joins" host_joins "$i"
		on_host "$i" "$bin/pangead" --coordinator "$coordinator" --pki "$work/pki$i" \
			--data-address "$ip" --cpus "$cpus" --mem "$mem" \
			--run-dir "$state/run$i" "$@" </dev/null >"$state/host$i.log" 2>&1 &
	done
	wait_until "$command_limit_s" "$hosts_count registered nodes" hosts_ready
}
# hosts_cluster_up NODES CPUS MEM [OPTION]...: what `pangea cluster up` makes, in the same state directory, but with
# each node on a host. From here on $bin's pangea is host 0's.
hosts_cluster_up() {
	local nodes=$1 cpus=$2 mem=$3 i option grace=(--grace 60) deadline=(--deadline 30)
	shift 3
	while [ $# -gt 0 ]; do
		option=("$1" "$2")
		case $1 in
		--grace) grace=("${option[@]}") ;;
		--deadline) deadline=("${option[@]}") ;;
		*) fail "hosts_cluster_up: unknown option '$1'" ;;
		esac
		shift 2
	done
	hosts_possible
	mkdir -m 700 "$state"
	pki=$state/pki
	hosts_make "$nodes"
	host_start 0 coordinator pangea-coordinator --listen "$(host_ip4 0):7420" --pki "$pki" --ca "$pki" \
		--address-file "$state/coordinator.address" --state-dir "$state/coordinator" "${grace[@]}" "${deadline[@]}"
	wait_until "$command_limit_s" "the coordinator's address" test -s "$state/coordinator.address"
	for i in $(seq 0 $((nodes - 1))); do
		"$bin/pangea" pki issue node "node$i" --pki "$pki" --out "$pki/node$i" >>"$work/pki.log"
		host_start "$i" "node$i" pangead --coordinator "$(host_ip4 0):7420" --name "node$i" --cpus "$cpus" \
			--mem "$mem" --pki "$pki/node$i" --run-dir "$state/node$i" --console-dir "$state/node$i" \
			--data-address "$(host_ip4 "$i")" "${grace[@]}"
	done
	hosts_programs
	wait_until "$command_limit_s" "$nodes registered nodes" hosts_count_ready
}
hosts_count_ready() { [ "$(pangea nodes --json 2>/dev/null | grep -c '"state": "ready"')" -eq "$hosts_count" ]; }

# host_start N NAME PROGRAM ARGUMENT...: in the background on that host, with its log where `pangea cluster up` has it.
host_start() {
	local host=$1 name=$2 program=$3
	shift 3
	on_host "$host" "$bin/$program" "$@" </dev/null >"$state/$name.log" 2>&1 &
}

# hosts_programs: $bin is a directory in which pangea is one on host 0.
hosts_programs() {
	local program real=$bin
	bin=$work/bin
	mkdir "$bin"
	for program in pangead pangea-coordinator pangea-vmm; do
		ln -s "$real/$program" "$bin/"
	done
	printf '#!/bin/sh\nexec ip netns exec %s "%s" "$@"\n' "$hosts_prefix-0" "$real/pangea" >"$bin/pangea"
	chmod 755 "$bin/pangea"
}

# host_joins N: gets that host its certificate; its name is in there, and it tells the daemon.
host_joins() {
	"$bin/pangea" pki token --pki "$pki" --name "host$1" |
		on_host "$1" "$bin/pangea" join - --coordinator "$coordinator" --name "host$1" --pki "$work/pki$1" \
			>>"$work/join.log" 2>&1
}
hosts_ready() {
	[ "$(client nodes --json 2>/dev/null | grep -oE '"name": *"host[0-9]+"' | sort -u | wc -l)" -eq "$hosts_count" ]
}

# client ARGUMENT...: one command of the command line on host 0, with a deadline.
client() {
	on_host 0 timeout -k 5 "$command_limit_s" "$bin/pangea" "$@" --coordinator "$coordinator" \
		--pki "$pki" </dev/null
}

# client_run WORDS ARGUMENT...: `pangea run` on host 0 in the background; console in $console,
# sentences in $work/run.err, process in $run_pid.
client_run() {
	local words=$1
	shift
	: >"$console"
	on_host 0 "$bin/pangea" run --coordinator "$coordinator" --pki "$pki" \
		--kernel "$kernel" --initrd "$initrd" --append "$guest_cmdline $words" "$@" \
		</dev/null >"$console" 2>"$work/run.err" &
	run_pid=$!
}

# hosts_down: coordinator and daemons end by SIGTERM; nothing of them is left.
hosts_down() {
	local pid
	for pid in $(our_pids pangead) $(our_pids pangea-coordinator); do
		kill -TERM "$pid" 2>/dev/null || true
	done
	wait_until "$end_limit_s" "the end of every process" no_process
}
