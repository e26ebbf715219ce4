#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Part of deploy/lab/run: what is carried into the lab VM, as two initramfs images behind one another.
# Sourced, never run.

net_tools=(ip tc rdma ibv_devinfo ib_send_lat ib_write_lat ib_write_bw)

# base_ready: what every run shares, packed once: busybox, the modules, init and what the sets share.
base_ready() {
	local part root base=$lab_dir/base.cpio
	if [ -s "$base" ]; then
		for part in "$here"/inside "$here"/inside/* "$lab_dir/fetched" "$lab_dir/hold" \
			"$guest_dir/busybox" "$here/image.sh"; do
			[ "$part" -nt "$base" ] && break
			part=
		done
		[ -n "$part" ] || return 0
	fi
	root=$work/base
	mkdir -p "$root"/{bin,lab/bin,lab/sets,lab/modules}
	install -m 755 "$guest_dir/busybox" "$root/bin/busybox"
	ln -s busybox "$root/bin/sh"
	install -m 755 "$lab_dir/hold" "$root/lab/bin/hold"
	cp "$lab_dir"/modules/* "$root/lab/modules/"
	install -m 755 "$here/inside/init" "$root/init"
	install -m 644 "$here"/inside/* "$root/lab/sets/"
	mv "$root"/lab/sets/*.sh "$root/lab/"
	rm "$root/lab/sets/init"
	pack "$root" "$base"
}

# pack DIRECTORY FILE
pack() {
	(cd "$1" && find . | LC_ALL=C sort | cpio --quiet -R 0:0 -o -H newc) >"$2.$$"
	mv "$2.$$" "$2"
}

# carry FILE DIRECTORY: the program or library to that place in the lab, and the libraries that it needs.
carry() {
	local library
	[ -e "$1" ] || die "$1 is missing: build it first"
	install -D -m 755 -t "$work/root$2" "$1"
	while read -r library; do
		[ -e "$work/root$library" ] || install -D -m 755 "$library" "$work/root$library"
	done < <(ldd "$1" 2>/dev/null | grep -oE '(^|[[:space:]])/[^ ]+' | tr -d '[:blank:]')
}

# The threads of a program that calls pthread_exit load this by name, unseen by ldd.
carry_libgcc() {
	local library
	library=$(ldconfig -p 2>/dev/null | sed -n 's/.*libgcc_s\.so\.1 .*x86-64.* => //p' | head -n 1)
	[ -z "$library" ] || install -D -m 755 "$library" "$work/root/lib/x86_64-linux-gnu/libgcc_s.so.1"
}

carry_pangea() {
	local program
	for program in pangea pangead pangea-coordinator pangea-vmm; do
		carry "$bin/$program" /pangea/bin
	done
	carry_libgcc
}

# The build keeps micro-guests beside bin/, where the programs look for them.
carry_guests() {
	local guests=$build_dir/$preset/guests file
	if [ ${#words[@]} -eq 0 ]; then
		for file in "$guests"/*; do
			[ -f "$file" ] && [ -x "$file" ] && words+=("${file##*/}")
		done
	fi
	[ ${#words[@]} -gt 0 ] || die "there are no micro-guests in $guests: build them first"
	for file in "${words[@]}"; do
		[ -f "$guests/$file" ] || die "there is no micro-guest $guests/$file"
		install -D -m 755 -t "$work/root/pangea/guests" "$guests/$file"
	done
}

# program_ready NAME: the lab's own program of this name, compiled where it is not yet.
program_ready() {
	local source=$here/$1.c target=$lab_dir/$1
	[ ! "$target" -nt "$source" ] || return 0
	cc -std=gnu17 -D_GNU_SOURCE -O2 -Wall -Wextra -static -pthread -o "$target.$$" "$source" ||
		die "$source does not compile"
	mv "$target.$$" "$target"
}

# carry_net: iproute2's programs, beside busybox's own of the same names, and for RDMA the device's driver, which
# libibverbs looks for in a folder beside itself, and what shows the device.
carry_net() {
	local file
	for file in "${net_tools[@]}"; do
		carry "$(command -v "$file")" /lab/net
	done
	for file in /usr/lib/*/libibverbs/librxe-*.so; do
		carry "$file" "${file%/*}"
	done
	install -D -m 644 -t "$work/root/etc/libibverbs.d" /etc/libibverbs.d/rxe.driver
}

# units_default: of what this lab VM has: KVM, else RDMA and the kernel's TLS.
units_default() {
	if [ "$rdma$ktls" = nono ]; then
		find "$bin" -maxdepth 1 \( -name 'unit_kvm*' -o -name unit_pages \) -printf '%f\n'
		return
	fi
	[ "$ktls" = no ] || echo unit_tls
	[ "$rdma" = no ] || echo unit_rdma
}

carry_units() {
	local name
	if [ ${#words[@]} -eq 0 ]; then
		mapfile -t words < <(units_default | sort)
		[ ${#words[@]} -gt 0 ] || die "there are no unit tests for this in $bin: build them first"
	fi
	for name in "${words[@]}"; do
		carry "$bin/$name" /lab/unit
	done
	carry_libgcc
}

# What the words name of this build, beside Pangea's programs.
carry_command() {
	local word
	[ ! -x "$bin/pangea" ] || carry_pangea
	for word in $(tr -cs 'a-z0-9_-' ' ' <<<"${words[*]}"); do
		[ ! -x "$bin/$word" ] || carry "$bin/$word" /pangea/bin
	done
}

carry_pair() {
	local scenarios=("${words[@]}")
	words=(hello pingpong march atomics litmus share)
	carry_guests
	words=("${scenarios[@]}")
	[[ " ${words[*]} " != *" linux "* ]] || carry_linux
}

# With RDMA only bench/rdma, which asks for bash.
carry_bench() {
	if [ "$rdma" = yes ]; then
		carry "$(command -v bash)" /lab/net
		carry "$bin/bench_transport" /pangea/bin
		carry "$bin/bench_fault" /pangea/bin
		install -D -m 755 -t "$work/root/lab/tree/bench" "$top/bench/rdma"
		install -D -m 644 -t "$work/root/lab/tree/deploy" "$top/deploy/lib.sh"
		return
	fi
	words=(faults smp speed radix lu fft ocean)
	carry_guests
	words=()
	carry "$bin/bench_exits" /pangea/bin
	install -D -m 755 -t "$work/root/lab/bench" "$top/bench/guests"
}

carry_linux() {
	"$top/deploy/initramfs" "$preset"
	install -D -m 644 -t "$work/root/lab/guest" "$guest_dir/vmlinuz" "$guest_dir/initramfs.cpio"
	install -D -m 644 -t "$work/root/lab" "$top/deploy/guest.conf"
}

# image_make: the run's own part of the initramfs, behind the shared one.
image_make() {
	mkdir -p "$work/root/lab"
	case $set in
	probe) carry "$lab_dir/probe" /lab/bin ;;
	unit) carry_units ;;
	pair) carry_pangea && carry_pair ;;
	microguests) carry_pangea && carry_guests ;;
	linux) carry_pangea && carry_linux ;;
	bench) carry_pangea && carry_bench ;;
	command) carry_command ;;
	esac
	[ "$parts" = kvm ] || carry_net
	cat >"$work/root/lab/settings" <<END
set=$set
limit_s=$limit_s
cpu=$cpu
force=$force
slices="$slices"
parts="$parts"
transport=$transport
END
	printf '%s\n' ${words[@]+"${words[@]}"} >"$work/root/lab/words"
	pack "$work/root" "$work/own.cpio"
	cat "$lab_dir/base.cpio" "$work/own.cpio" >"$work/initrd"
	rm -rf "$work/root" "$work/own.cpio"
}
