/* SPDX-License-Identifier: Apache-2.0 */
/* KVM_RUN's exits: the guest's accesses go to the machine's bus, the others to the machine. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vmm/cpu/kvm/kvm_parts.h"

#define INSTRUCTION_MAX 15u

/* ---- ports and MMIO ---- */

/* count values of a string instruction lie one after the other in the shared page. */
static void pio(struct kvm_cpu *c)
{
	const struct vcpu_bus *bus = &c->config.bus;
	uint8_t *data = (uint8_t *)c->run + c->run->io.data_offset;
	unsigned size = c->run->io.size;
	uint16_t port = c->run->io.port;

	for (uint32_t i = 0; i < c->run->io.count; i++, data += size) {
		uint32_t value = 0;

		if (c->run->io.direction == KVM_EXIT_IO_OUT) {
			memcpy(&value, data, size);
			bus->pio_write(bus->ctx, c->vcpu.id, port, size, value);
		} else {
			bus->pio_read(bus->ctx, c->vcpu.id, port, size, &value);
			memcpy(data, &value, size);
		}
	}
}

static void mmio_access(struct kvm_cpu *c, uint64_t gpa, uint8_t *data, unsigned size)
{
	const struct vcpu_bus *bus = &c->config.bus;
	uint64_t value = 0;

	if (c->run->mmio.is_write) {
		memcpy(&value, data, size);
		bus->mmio_write(bus->ctx, c->vcpu.id, gpa, size, value);
	} else {
		bus->mmio_read(bus->ctx, c->vcpu.id, gpa, size, &value);
		memcpy(data, &value, size);
	}
}

/* A wide or page-crossing access comes in pieces of any length: cut them as the bus has them. */
static void mmio(struct kvm_cpu *c)
{
	uint64_t gpa = c->run->mmio.phys_addr;
	unsigned len = c->run->mmio.len, at = 0;

	while (at < len) {
		unsigned size = 8;

		while (size > len - at || (gpa + at) % size)
			size /= 2;
		mmio_access(c, gpa + at, c->run->mmio.data + at, size);
		at += size;
	}
}

/* ---- MSRs ---- */

/* Besides the bus's: those that KVM does not know but every kernel reads on such a CPU. */
static int msr_read(struct kvm_cpu *c, uint32_t msr, uint64_t *value)
{
	*value = 0;
	if (msr_is_bus(msr))
		return c->config.bus.msr_read(c->config.bus.ctx, c->vcpu.id, msr, value);
	switch (msr) {
	case MSR_TSC_ADJUST:
		*value = c->tsc_offset;
		return 0;
	case MSR_TSC_AUX:
		*value = c->tsc_aux;
		return 0;
	case MSR_MISC_ENABLE:
		*value = c->misc_enable;
		return 0;
	default:
		return msr_is_constant(msr, value) ? 0 : -EINVAL;
	}
}

static int msr_write(struct kvm_cpu *c, uint32_t msr, uint64_t value)
{
	if (msr_is_bus(msr))
		return c->config.bus.msr_write(c->config.bus.ctx, c->vcpu.id, msr, value);
	switch (msr) {
	case MSR_TSC:
		return kvm_tsc_write(c, value);
	case MSR_TSC_ADJUST:
		c->tsc_offset = value;
		return kvm_tsc_apply(c);
	case MSR_TSC_AUX:
		if (value > UINT32_MAX)
			return -EINVAL;
		c->tsc_aux = value;
		return 0;
	case MSR_MISC_ENABLE:
		c->misc_enable = value;
		return 0;
	case MSR_UCODE_REV: /* written before CPUID by who reads the revision */
		return 0;
	default:
		return -EINVAL;
	}
}

static void rdmsr(struct kvm_cpu *c)
{
	uint64_t value;

	c->run->msr.error = msr_read(c, c->run->msr.index, &value) != 0;
	c->run->msr.data = value;
}

static void wrmsr(struct kvm_cpu *c)
{
	c->run->msr.error = msr_write(c, c->run->msr.index, c->run->msr.data) != 0;
}

/* ---- failures ---- */

static void bytes_text(const uint8_t *bytes, unsigned count, char *text, size_t size)
{
	size_t at = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < count && at + 4 <= size; i++)
		at += (size_t)snprintf(text + at, size - at, " %02x", bytes[i]);
}

static void internal_error(const struct kvm_cpu *c)
{
	const struct kvm_run *run = c->run;
	char text[3 * INSTRUCTION_MAX + 1] = "";

	if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION &&
	    run->emulation_failure.ndata >= 1 &&
	    (run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
		unsigned size = run->emulation_failure.insn_size;

		bytes_text(run->emulation_failure.insn_bytes,
			   size < INSTRUCTION_MAX ? size : INSTRUCTION_MAX, text, sizeof(text));
	}
	if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
		log_error("vCPU %u: KVM cannot emulate an instruction (suberror 1)%s%s", c->vcpu.id,
			  *text ? ":" : "", text);
	else
		log_error("vCPU %u: KVM failed inside: suberror %u, data 0x%llx", c->vcpu.id,
			  run->internal.suberror,
			  run->internal.ndata ? (unsigned long long)run->internal.data[0] : 0ull);
}

static void failure_log(const struct kvm_cpu *c)
{
	const struct kvm_run *run = c->run;

	switch (run->exit_reason) {
	case KVM_EXIT_INTERNAL_ERROR:
		internal_error(c);
		return;
	case KVM_EXIT_FAIL_ENTRY:
		log_error("vCPU %u: the processor refuses the guest's state: hardware reason "
			  "0x%llx",
			  c->vcpu.id,
			  (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		return;
	case KVM_EXIT_UNKNOWN:
		log_error("vCPU %u: KVM does not know the processor's exit 0x%llx", c->vcpu.id,
			  (unsigned long long)run->hw.hardware_exit_reason);
		return;
	default:
		log_error("vCPU %u: KVM gave an exit that this engine never asked for: reason %u",
			  c->vcpu.id, run->exit_reason);
		return;
	}
}

/* ---- all ---- */

/* An exit that the engine serves by itself. */
static bool exit_served(struct kvm_cpu *c)
{
	switch (c->run->exit_reason) {
	case KVM_EXIT_IO:
		pio(c);
		return true;
	case KVM_EXIT_MMIO:
		mmio(c);
		return true;
	case KVM_EXIT_X86_RDMSR:
		rdmsr(c);
		return true;
	case KVM_EXIT_X86_WRMSR:
		wrmsr(c);
		return true;
	case KVM_EXIT_SET_TPR: /* CR8 went to the bus after KVM_RUN already */
	case KVM_EXIT_INTR:
		return true;
	default:
		return false;
	}
}

bool kvm_exit_handle(struct kvm_cpu *c, struct vcpu_exit *exit)
{
	if (exit_served(c))
		return false;
	switch (c->run->exit_reason) {
	case KVM_EXIT_HLT:
		c->halted = true;
		exit->reason = VCPU_EXIT_HLT;
		return true;
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		exit->reason = VCPU_EXIT_IRQ_WINDOW;
		return true;
	case KVM_EXIT_SHUTDOWN:
		c->shut_down = true;
		exit->reason = VCPU_EXIT_SHUTDOWN;
		return true;
	default:
		failure_log(c);
		exit->reason = VCPU_EXIT_ERROR;
		exit->error = -EIO;
		return true;
	}
}
