# SPDX-License-Identifier: Apache-2.0
# What the tests on a whole Debian share: its disk, made once and kept in build/images, and ways into the guest.
# Sourced behind lib.sh.
export PATH=$PATH:/sbin:/usr/sbin
images=$build_dir/images
debian_base=$images/test.img
debian_key=$images/test-key
debian_packages=gdb,python3-minimal,stress-ng
# Until it can be reached: a whole system, on software CPUs that other tests may keep busy.
debian_limit_s=900

# debian_image: the disk and the key to it. One that other words or another make-debian made is made anew.
debian_image() {
	local input
	for tool in mmdebstrap mke2fs qemu-img ssh; do
		command -v $tool >/dev/null || fail "$tool is missing: run deploy/setup --tests --images"
	done
	input=$(cat "$top/deploy/images/make-debian" - <<<"$debian_packages" | sha256sum)
	mkdir -p "$images"
	[ -e "$debian_key" ] || ssh-keygen -q -t ed25519 -N '' -C pangea-test -f "$debian_key"
	[ ! -e "$debian_base" ] || [ "$(cat "$debian_base.input" 2>/dev/null)" != "$input" ] || return 0
	rm -f "$debian_base.input"
	"$top/deploy/images/make-debian" --size 3G --packages "$debian_packages" --ssh-key "$debian_key.pub" \
		--hostname debian --output "$debian_base" >"$work/image.log" 2>&1 ||
		fail "make-debian: $(tail -n 20 "$work/image.log")"
	echo "$input" >"$debian_base.input"
}

# layer_make FILE: a disk that stands on Debian's and begins as it is.
layer_make() { qemu-img create -q -f qcow2 -b "$debian_base" -F raw "$1"; }

# port_free: a TCP port of this host that nobody listens on.
port_free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# vm_up NAME NODES DISK ARGUMENT...: boots Debian from that layer until ssh answers. Sets run_pid and port; its console
# is in $work/NAME.console, its sentences in $work/NAME.err.
vm_up() {
	local name=$1 nodes=$2 disk=$3
	port=$(port_free)
	console=$work/$name.console
	: >"$console"
	"$bin/pangea" run --state-dir "$state" --kernel "$debian_base.vmlinuz" --initrd "$debian_base.initrd" \
		--append "root=LABEL=pangea-root rw $guest_cmdline" --cpus "${cpus:-2}" --mem "${mem:-768M}" \
		--nodes "$nodes" --name "$name" --disk "$disk,format=qcow2,id=root" \
		--net "user,forward=127.0.0.1:$port:22" "${@:4}" </dev/null >"$console" 2>"$work/$name.err" &
	run_pid=$!
	vm_wait
}

# guest_on PORT SECONDS COMMAND: carries it out as root in the guest; its output is ours.
guest_on() {
	timeout -k 5 "$2" ssh -i "$debian_key" -p "$1" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
		-o LogLevel=ERROR -o ConnectTimeout=10 -o BatchMode=yes -o ServerAliveInterval=10 "${login:-root}@127.0.0.1" "$3"
}
guest() { guest_on "$port" "${limit_s:-120}" "$1" </dev/null; }

guest_answers() { guest_on "$port" 20 "${1:-true}" </dev/null >/dev/null 2>&1; }
# vm_wait [COMMAND]: until ssh into the guest answers and the command is true there.
vm_wait() {
	local deadline=$((SECONDS + debian_limit_s))
	until guest_answers "${1:-true}"; do
		kill -0 "$run_pid" 2>/dev/null || fail "the run ended before ssh answered: $(tail -n 5 "${console%.console}.err")"
		[ $SECONDS -lt $deadline ] || fail "ssh into the guest: no answer within $debian_limit_s s: $(tail -n 20 "$console")"
		sleep 0.5
	done
}

# guest_put FILE NAME: a file of the host's into the guest, that can be executed.
guest_put() { guest_on "$port" 120 "cat >$2 && chmod 755 $2" <"$1" || fail "copying $1 into the guest"; }

# vm_down: powers the guest off from inside, in good order.
vm_down() {
	guest 'systemctl --no-block poweroff' >/dev/null 2>&1 || true
	run_end "$debian_limit_s"
	expect_code 0
}

# fsck_clean DISK: the file system on a layer, or a raw image, is whole, its journal is empty, and stays as it is.
fsck_clean() {
	local raw=$1
	if [ "$(head -c 3 "$1")" = QFI ]; then
		raw=$work/fsck.raw
		qemu-img convert -q -O raw "$1" "$raw" || fail "qemu-img convert $1"
	fi
	if dumpe2fs -h "$raw" 2>/dev/null | grep -q '^Filesystem features:.*needs_recovery'; then
		fail "$1: its journal was left full"
	fi
	e2fsck -fn "$raw" >"$work/fsck" 2>&1 || fail "$1: the file system is broken: $(cat "$work/fsck")"
}

# host_cat DISK PATH: a file of what fsck_clean looked at last, without a guest.
host_cat() { debugfs -R "cat $1" "${2:-$work/fsck.raw}" 2>/dev/null; }
