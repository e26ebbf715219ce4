#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Part of deploy/lab/run: boots the lab VM, or the two of a pair and the link between them, and takes what they send.
# Sourced, never run.

# What a set gets beyond its own time: start, sending the results, power-off, on a busy machine.
boot_limit_s=120
# How long the other of a pair may take to end once the first has.
end_limit_s=60
# Of each lab VM by its number, from 1: the process that bounds it.
qemu=()

# vm_start HOST: one life of a lab VM, in the background. What it says and sends is in $work/HOST.
# Machine pc: microvm does not come up with several threads. No real-time priority, ever. On one thread the
# lab's clock goes on by a nanosecond an instruction, and jumps over idleness: so timers of the guests do
# not come faster than an emulator can serve them.
vm_start() {
	local host=$1 dir=$work/$1 clock=() link=() prefix=
	[ "$thread" = multi ] || clock=(-icount shift=0,sleep=off)
	rm -rf "$dir" && mkdir "$dir"
	if [ "$hosts" -gt 1 ]; then
		prefix="$host| "
		link_arguments "$host"
	fi
	timeout -k 10 $((limit_s + boot_limit_s)) qemu-system-x86_64 -M pc -accel "tcg,thread=$thread" \
		${clock[@]+"${clock[@]}"} -cpu max -smp "$processors" -m "$memory_mib" -kernel "$lab_dir/vmlinuz" -initrd "$work/initrd" \
		-append "console=ttyS0 panic=-1 quiet maxcpus=1 noreplace-smp tsc=reliable clocksource=tsc lab.npt=$npt lab.host=$host" \
		-nodefaults -no-user-config -display none -monitor none -no-reboot -serial stdio \
		-serial "file:$dir/result.tgz" ${link[@]+"${link[@]}"} \
		</dev/null > >(sed -u "s/\r\$//; s/^/$prefix/" | tee "$dir/console") 2>&1 &
	qemu[host]=$!
}

# link_arguments HOST: its end of the cable, a UNIX socket that host 1 listens on: a round trip takes 2 to 3 ms,
# over a TCP socket 46.
link_arguments() {
	local socket=$work/link server=on i
	if [ "$1" -ne 1 ]; then
		server=off
		for ((i = 0; i < 300; i++)); do
			[ ! -S "$socket" ] || break
			sleep 0.1
		done
	fi
	link=(-netdev "stream,id=n0,server=$server,addr.type=unix,addr.path=$socket"
		-device "virtio-net-pci,netdev=n0,mac=52:54:00:77:00:0$1,romfile=")
}

# lab_boot: all VMs of the set, to their ends. The exit code is the first one's, and says nothing but whether it was
# cut off (124, 137).
lab_boot() {
	local host code=0
	rm -f "$work/link"
	for ((host = 1; host <= hosts; host++)); do
		vm_start "$host"
	done
	wait "${qemu[1]}" || code=$?
	for ((host = 2; host <= hosts; host++)); do
		vm_end "$host"
	done
	qemu=()
	return "$code"
}

# vm_end HOST: it ends by itself, or is made to.
vm_end() {
	local i
	for ((i = 0; i < end_limit_s; i++)); do
		kill -0 "${qemu[$1]}" 2>/dev/null || break
		sleep 1
	done
	kill "${qemu[$1]}" 2>/dev/null || true
	wait "${qemu[$1]}" || true
}

# result_take: unpacks what the lab sent; fails when that is not all there. The first code that is not 0 counts.
result_take() {
	local host out code=0
	rm -rf "$work/out" && mkdir "$work/out"
	for ((host = 1; host <= hosts; host++)); do
		out=$work/out
		[ "$hosts" -eq 1 ] || out=$work/out/$host
		mkdir -p "$out"
		tar -xz -C "$out" -f "$work/$host/result.tgz" 2>/dev/null && [ -s "$out/code" ] || return 1
		[ "$code" != 0 ] || code=$(cat "$out/code")
	done
	echo "$code" >"$work/out/code"
}

# results_keep: this run's, in place of the last one's.
results_keep() {
	local host out
	mkdir -p "$work/out" "$lab_dir/results"
	for ((host = 1; host <= hosts; host++)); do
		out=$work/out
		[ "$hosts" -eq 1 ] || out=$work/out/$host
		mkdir -p "$out"
		[ ! -e "$work/$host/console" ] || mv "$work/$host/console" "$out/console"
	done
	rm -rf "$kept" && mv "$work/out" "$kept"
}

# lab_kernel_died: a lab VM's own kernel, a stock one, has died by a fault of its own. No program in the lab can do
# that; the emulator can (docs/lab.md).
lab_kernel_died() {
	grep -qaE 'PANIC: double fault|Kernel panic - not syncing: Fatal exception' "$work"/*/console
}

# lab_run: boots, and a second time if the first one came to nothing, one lab VM then on one emulator thread, since
# the emulator itself was seen to crash; that is said aloud, and time running out is no such case.
lab_run() {
	local code=0
	step "booting $([ "$hosts" -eq 1 ] && echo "the lab VM" || echo "$hosts lab VMs"): set $set, $memory_mib MiB, at most $limit_s s"
	lab_boot || code=$?
	if ! result_take && [ "$code" -ne 124 ] && [ "$code" -ne 137 ] && { [ "$thread" = multi ] || lab_kernel_died; }; then
		step "the lab VM ended (code $code) without a result: once more"
		[ "$hosts" -gt 1 ] || thread=single
		code=0
		lab_boot || code=$?
	fi
	if ! result_take; then
		results_keep
		die "the lab VM sent no result (code $code); its console is in $kept"
	fi
	code=$(cat "$work/out/code")
	results_keep
	step "set $set ended with $code; results in $kept"
	[[ $code =~ ^[0-9]+$ ]] || die "the result is garbled"
	exit "$code"
}
