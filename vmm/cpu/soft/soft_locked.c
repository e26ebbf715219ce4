/* SPDX-License-Identifier: Apache-2.0 */
/* LOCKed accesses that no host instruction may do: by the machine, or alone among this process's CPUs. */
#include <sched.h>

#include "vmm/cpu/soft/soft_system.h"

/* A CPU without a machine: one access at a time. */
static void exclusive_begin(struct soft_vm *vm)
{
	uint32_t free_word = 0;

	while (!atomic_compare_exchange_weak_explicit(&vm->split_lock, &free_word, 1,
						      memory_order_acquire, memory_order_relaxed)) {
		free_word = 0;
		sched_yield();
	}
}

static void exclusive_end(struct soft_vm *vm)
{
	atomic_store_explicit(&vm->split_lock, 0, memory_order_release);
}

int soft_locked_perform(struct soft_cpu *c, struct locked_access *access)
{
	uint8_t *const place[2] = {c->vm->ram + access->part[0].gpa,
				   c->vm->ram + access->part[1].gpa};

	if (c->config.locked)
		return c->config.locked(c->config.bus.ctx, c->vcpu.id, access);
	exclusive_begin(c->vm);
	locked_perform(access, place);
	exclusive_end(c->vm);
	return 0;
}
