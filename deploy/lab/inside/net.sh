# SPDX-License-Identifier: Apache-2.0
# The lab VM's network and RDMA device; sourced by busybox sh after lib.sh, never run.
#
# A set without --rdma and without a link has neither. Busybox would take its own ip and tc for such a name.

ip=/lab/net/ip tc=/lab/net/tc
# A message of a page is one packet.
mtu=4300

# net_up: the device that carries the address, and rxe0 on it.
net_up() {
	device=
	if has_part link; then
		device=eth0
	elif has_part rdma; then
		# The other end of the cable is here, too: what is sent to the own address does not take it.
		device=v0
		$ip link add v0 mtu $mtu type veth peer name v1 mtu $mtu && $ip link set v1 up || return 1
	fi
	[ -n "$device" ] || return 0
	$ip link set "$device" mtu $mtu up && $ip addr add "$(address_of "$host")/24" dev "$device" || return 1
	! has_part rdma || rdma_up
}

# rdma_up: its GID for the IPv4 address comes by itself, soon.
rdma_up() {
	/lab/net/rdma link add rxe0 type rxe netdev "$device" || return 1
	export PANGEA_TEST_RDMA_ADDRESS="$(address_of "$host")"
	gids=/sys/class/infiniband/rxe0/ports/1/gids
	tries=100
	until grep -q ffff "$gids/1" 2>/dev/null; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || break
		sleep 0.1
	done
	# As udev has them: for any user.
	[ $tries -gt 0 ] && chmod 666 /dev/infiniband/uverbs0 /dev/infiniband/rdma_cm && return
	echo "lab: rxe0 has no address or no device file"
	return 1
}
