/* SPDX-License-Identifier: Apache-2.0 */
/* KVM's vCPUs on coherent memory: guest memory of the engine, alone and between two slices. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "tests/unit/dsm/engine_rig.h"
#include "tests/unit/kvm/kvm_guest.h"

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

/* A user who may not have the kernel's faults resolved cannot run these. */
__attribute__((constructor)) static void skip_without_kernel_faults(void)
{
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd = device < 0 ? -1 : ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC);

	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (fd < 0) {
		printf("skipped: userfaultfd for the kernel's faults: %s\n", strerror(errno));
		fflush(stdout);
		_exit(EXIT_SKIP);
	}
	close(fd);
	if (device >= 0)
		close(device);
}

static void rig_start(struct rig *rig, unsigned slices)
{
	rig_init(rig, slices);
	rig->config.kernel_faults = true;
	for (unsigned i = 0; i < slices; i++)
		rig_create(rig, i);
	for (unsigned i = 0; i < slices; i++)
		rig_connect(rig, i);
	for (unsigned i = 0; i < slices; i++)
		cr_assert(rig_until(&rig->slice[i].ready, 1), "slice %u is ready", i);
}

static void counters_start(struct guest *g, unsigned pages, unsigned rounds)
{
	guest_user(g, LABEL(pages));
	g->s.gpr[R9] = rounds;
	g->s.gpr[R10] = pages;
	g->s.gpr[R11] = ARRAY;
	guest_put(g);
}

/* A guest in the memory of slice 0 alone; the faults that it took. */
static uint64_t counters_alone(unsigned slices)
{
	const unsigned pages = 512, rounds = 3;
	static struct rig rig;
	struct engine_stats stats;
	struct guest g;

	rig_start(&rig, slices);
	guest_fill(engine_ram(rig.slice[0].engine));
	guest_open(&g, &vcpu_kvm_ops, engine_ram(rig.slice[0].engine), RIG_SLICE_BYTES);
	counters_start(&g, pages, rounds);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT, "exit %d", (int)g.exit.reason);
	/* Each page gives 1 + 2 + ... + rounds. */
	cr_expect_eq(*guest_u64(&g, DATA), pages * rounds * (rounds + 1) / 2);
	stats = rig_stats(&rig, 0);
	guest_close(&g);
	rig_down(&rig);
	return stats.faults_read + stats.faults_write;
}

Test(kvm_coherent, one_slice, .timeout = 100)
{
	cr_expect_eq(counters_alone(1), 0);
}

/* Every page of the guest, its tables too, comes by a fault, alone or with 63 neighbours; some faults
 * are KVM's own. */
Test(kvm_coherent, own_memory, .timeout = 100)
{
	cr_expect_geq(counters_alone(2), 512 / 64);
}

/* ---- two slices ---- */

static void *guest_thread(void *arg)
{
	struct guest *g = arg;

	do
		g->ops->run(g->v, &g->exit);
	while (g->exit.reason == VCPU_EXIT_KICKED);
	return NULL;
}

static void slices_count(const struct vcpu_ops *engine[2], unsigned pages, unsigned rounds)
{
	static struct rig rig;
	struct guest g[2];
	pthread_t thread[2];

	rig_start(&rig, 2);
	guest_fill(engine_ram(rig.slice[0].engine));
	for (unsigned i = 0; i < 2; i++) {
		guest_open(&g[i], engine[i], engine_ram(rig.slice[i].engine), 2 * RIG_SLICE_BYTES);
		counters_start(&g[i], pages, rounds);
	}
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, guest_thread, &g[i]), 0);
	/* Kicks while a vCPU may wait for a page. */
	for (unsigned i = 0; i < 200; i++) {
		nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
		g[i % 2].ops->kick(g[i % 2].v);
	}
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(thread[i], NULL);
		cr_expect_eq(g[i].exit.reason, VCPU_EXIT_HLT, "slice %u", i);
	}
	for (unsigned n = 0; n < pages; n++)
		cr_expect_eq(rig_read(&rig, n % 2, ARRAY + n * 4096), 2 * rounds, "page %u", n);
	for (unsigned i = 0; i < 2; i++) {
		struct engine_stats stats = rig_stats(&rig, i);

		printf("slice %u (%s): %lu write faults, %lu pages received\n", i, engine[i]->name,
		       (unsigned long)stats.faults_write, (unsigned long)stats.pages_received);
		guest_close(&g[i]);
	}
	rig_down(&rig);
}

Test(kvm_coherent, two_slices_count_together, .timeout = 100)
{
	const struct vcpu_ops *engines[2] = {&vcpu_kvm_ops, &vcpu_kvm_ops};

	slices_count(engines, 8, 50000);
}

Test(kvm_coherent, kvm_and_soft_count_together, .timeout = 100)
{
	const struct vcpu_ops *engines[2] = {&vcpu_kvm_ops, &vcpu_soft_ops};

	slices_count(engines, 8, 50000);
}

/* ---- one vCPU that moves between two slices while it computes ---- */

struct kicker {
	const struct vcpu *_Atomic target;
	_Atomic bool stop;
};

static void *kicker_thread(void *arg)
{
	struct kicker *k = arg;

	while (!atomic_load(&k->stop)) {
		struct vcpu *v = (struct vcpu *)(uintptr_t)atomic_load(&k->target);

		nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
		v->ops->kick(v);
	}
	return NULL;
}

/* At every kick the whole state goes to the other slice; the pages follow by the protocol. */
static unsigned run_moving(struct guest g[2])
{
	struct kicker k = {.target = g[0].v};
	unsigned now = 0, moves = 0;
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, kicker_thread, &k), 0);
	while (guest_run(&g[now]) != VCPU_EXIT_HLT) {
		cr_assert_eq(g[now].exit.reason, VCPU_EXIT_KICKED, "exit %d",
			     (int)g[now].exit.reason);
		g[!now].s = g[now].s;
		now = !now;
		guest_put(&g[now]);
		atomic_store(&k.target, g[now].v);
		moves++;
	}
	atomic_store(&k.stop, true);
	pthread_join(thread, NULL);
	return moves;
}

static void slices_move(const struct vcpu_ops *engine[2])
{
	const unsigned pages = 8, rounds = 100000;
	static struct rig rig;
	struct guest g[2];
	unsigned moves = 0, runs = 0;

	rig_start(&rig, 2);
	guest_fill(engine_ram(rig.slice[0].engine));
	for (unsigned i = 0; i < 2; i++)
		guest_open(&g[i], engine[i], engine_ram(rig.slice[i].engine), 2 * RIG_SLICE_BYTES);
	/* On a busy host a run may be over before the second kick. */
	do {
		counters_start(&g[0], pages, rounds);
		moves += run_moving(g);
	} while (++runs < 50 && moves < 2);
	printf("%s and %s: moved %u times\n", engine[0]->name, engine[1]->name, moves);
	cr_expect_geq(moves, 2, "there and back");
	for (unsigned n = 0; n < pages; n++)
		cr_expect_eq(rig_read(&rig, n % 2, ARRAY + n * 4096), rounds * runs, "page %u", n);
	for (unsigned i = 0; i < 2; i++)
		guest_close(&g[i]);
	rig_down(&rig);
}

Test(kvm_coherent, moved_between_slices_of_the_same_engine, .timeout = 100)
{
	const struct vcpu_ops *engines[2] = {&vcpu_soft_ops, &vcpu_soft_ops};

	slices_move(engines);
}

Test(kvm_coherent, moved_between_slices_of_different_engines, .timeout = 100)
{
	const struct vcpu_ops *engines[2] = {&vcpu_soft_ops, &vcpu_kvm_ops};

	slices_move(engines);
}

/* The kernel's own access to a page that nobody has touched: what KVM's emulator does. */
Test(kvm_coherent, kernel_faults)
{
	static struct rig rig;
	char byte = 'x', got = 0;
	uint8_t *ram;
	int pipe_fd[2];

	rig_start(&rig, 1);
	ram = engine_ram(rig.slice[0].engine) + ARRAY;
	cr_assert_eq(pipe(pipe_fd), 0);
	cr_assert_eq(write(pipe_fd[1], &byte, 1), 1);
	cr_assert_eq(read(pipe_fd[0], ram, 1), 1, "%s", strerror(errno));
	cr_assert_eq(write(pipe_fd[1], ram, 1), 1);
	cr_assert_eq(read(pipe_fd[0], &got, 1), 1);
	cr_expect_eq(got, 'x');
	rig_down(&rig);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}
