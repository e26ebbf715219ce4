/* SPDX-License-Identifier: Apache-2.0 */
/* What a user exit costs: a vCPU of each engine behind vmm/cpu/vcpu.h, without a machine around it. */
#include <errno.h>
#include <getopt.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "control/control.h"
#include "vmm/cpu/cpuid.h"
#include "vmm/cpu/kvm/kvm.h"
#include "vmm/boot/layout.h"
#include "vmm/cpu/vcpu.h"

#define COUNT_DEFAULT 20000u
#define COUNT_MAX     1000000u
/* Of those that take two threads, one for so many others: they sleep and wake. */
#define THREADS_SHARE 20u
/* A kind takes seconds; one that takes longer hangs, and the program ends. */
#define KIND_LIMIT_S 120u
/* So long the other thread leaves the vCPU's to sleep, or to be in the guest, before it calls. */
#define SETTLE_NS 30000

/* ---- the guest: tables, then instructions one after the other, no loop among them ---- */

#define RAM_BYTES   0x800000u
#define PML4	    0x1000u
#define PDPT	    0x2000u
#define PD_LOW	    0x3000u /* identity: RAM */
#define PD_HIGH	    0x4000u /* MMIO_GPA */
#define GDT	    0x5000u
#define IDT	    0x6000u
#define TSS	    0x7004u /* so that its 64-bit fields are aligned */
#define STACK	    0x9000u
#define HANDLER	    0xa000u
#define HANDLER_OUT 0xa800u
#define CODE	    0x10000u /* each kind's own, CODE_SIZE apart */
#define CODE_SIZE   0x2000u
#define CODE_REPEAT 1024u /* accesses of a run, then HLT */
#define MMIO_GPA    0xd0000000u

#define PORT		0xe9u
#define VECTOR		0x50u
#define VECTOR_OUT	0x51u /* its handler writes to the port */
#define MSR_X2APIC_LVT0 0x835u

#define SEL_KCODE 0x08
#define SEL_KDATA 0x10
#define SEL_UDATA 0x23
#define SEL_UCODE 0x2b
#define SEL_TSS	  0x30

/* Present, writable, user, accessed, dirty: no processor has a reason to write the tables. */
#define PTE	  0x67u
#define PTE_LARGE 0xe7u

enum kind {
	KIND_PORT_OUT,
	KIND_PORT_IN,
	KIND_MMIO_WRITE,
	KIND_MMIO_READ,
	KIND_MSR_WRITE,
	KIND_MSR_READ,
	KIND_HLT,
	KIND_HLT_WAKE,
	KIND_KICK,
	KIND_KICK_LATCHED,
	KIND_COUNT
};

struct measure; /* one kind on one engine */
typedef void kind_run(struct measure *m);
static kind_run accesses_run, hlt_run, hlt_wake_run, kick_run, kick_latched_run;

static const struct kind_info {
	const char *name;
	kind_run *run;
	uint8_t code[4], bytes; /* the guest's instructions */
	unsigned times;		/* so often, then HLT */
	uint8_t cpl;
	bool threads;
} kinds[KIND_COUNT] = {
	[KIND_PORT_OUT] = {"port out", accesses_run, {0xe6, PORT}, 2, CODE_REPEAT, 0, false},
	[KIND_PORT_IN] = {"port in", accesses_run, {0xe4, PORT}, 2, CODE_REPEAT, 0, false},
	/* mov %eax,(%r8), and the other way */
	[KIND_MMIO_WRITE] = {"MMIO write", accesses_run, {0x41, 0x89, 0}, 3, CODE_REPEAT, 0, false},
	[KIND_MMIO_READ] = {"MMIO read", accesses_run, {0x41, 0x8b, 0}, 3, CODE_REPEAT, 0, false},
	[KIND_MSR_WRITE] =
		{"x2APIC MSR write", accesses_run, {0x0f, 0x30}, 2, CODE_REPEAT, 0, false},
	[KIND_MSR_READ] = {"x2APIC MSR read", accesses_run, {0x0f, 0x32}, 2, CODE_REPEAT, 0, false},
	/* sti; hlt; jmp to the hlt */
	[KIND_HLT] = {"HLT and interrupt", hlt_run, {0xfb, 0xf4, 0xeb, 0xfd}, 4, 1, 0, false},
	[KIND_HLT_WAKE] =
		{"HLT, wake to handler", hlt_wake_run, {0xfb, 0xf4, 0xeb, 0xfd}, 4, 1, 0, true},
	/* jmp to itself */
	[KIND_KICK] = {"kick of a running CPU", kick_run, {0xeb, 0xfe}, 2, 1, 3, true},
	[KIND_KICK_LATCHED] =
		{"run with a kick latched", kick_latched_run, {0xeb, 0xfe}, 2, 1, 3, false},
};

struct samples {
	uint64_t *ns;
	unsigned count, wanted;
	char why_not[96]; /* empty: measured */
};

struct engine_run {
	const struct vcpu_ops *ops;
	uint64_t tsc_hz;
	uint8_t *ram;
	void *shared;
	struct vcpu *v;
	struct measure *now; /* whose the guest's accesses are; NULL: it does not run */
	char why_not[96];    /* empty: the engine is there */
	struct samples samples[KIND_COUNT];
};

/* What the vCPU's thread and the other tell each other: a futex. */
enum word {
	WORD_IDLE,
	WORD_READY, /* the vCPU's thread: call me */
	WORD_GO,    /* the other: called */
	WORD_STOP   /* the vCPU's thread: no more */
};

struct measure {
	struct engine_run *e;
	const struct kind_info *kind;
	struct samples *out;
	uint64_t last_ns; /* the last access; 0: none yet in this run of the guest */
	/* between the two threads */
	_Atomic uint32_t word;
	_Atomic uint64_t called_ns;
};

static void failed(struct measure *m, const char *what, const struct vcpu_exit *exit)
{
	static const char *const reasons[] = {[VCPU_EXIT_KICKED] = "a kick",
					      [VCPU_EXIT_HLT] = "HLT",
					      [VCPU_EXIT_IRQ_WINDOW] = "an interrupt window",
					      [VCPU_EXIT_SHUTDOWN] = "a triple fault",
					      [VCPU_EXIT_ERROR] = "an error"};

	snprintf(m->out->why_not, sizeof(m->out->why_not), "%s: it ended with %s%s%s", what,
		 reasons[exit->reason], exit->reason == VCPU_EXIT_ERROR ? ": " : "",
		 exit->reason == VCPU_EXIT_ERROR ? error_text(exit->error) : "");
}

static void sample_add(struct measure *m, uint64_t ns)
{
	if (m->out->count < m->out->wanted)
		m->out->ns[m->out->count++] = ns;
}

static bool done(const struct measure *m)
{
	return m->out->count == m->out->wanted || m->out->why_not[0];
}

/* ---- the bus ---- */

/* From one access to the next is one exit and entry; or it is the handler that a wake led to. */
static void access_seen(void *ctx)
{
	struct measure *m = ((struct engine_run *)ctx)->now;
	uint64_t now_ns = clock_now_ns();

	if (!m)
		return; /* no guest runs: an engine asks for the APIC's part of the state */
	if (m->kind->run == hlt_wake_run)
		sample_add(m, now_ns - atomic_load(&m->called_ns));
	else if (m->last_ns)
		sample_add(m, now_ns - m->last_ns);
	m->last_ns = now_ns;
}

static void pio_read(void *ctx, unsigned vcpu, uint16_t port, unsigned size, uint32_t *value)
{
	(void)vcpu;
	(void)port;
	(void)size;
	access_seen(ctx);
	*value = 0;
}

static void pio_write(void *ctx, unsigned vcpu, uint16_t port, unsigned size, uint32_t value)
{
	(void)vcpu;
	(void)port;
	(void)size;
	(void)value;
	access_seen(ctx);
}

static void mmio_read(void *ctx, unsigned vcpu, uint64_t gpa, unsigned size, uint64_t *value)
{
	(void)vcpu;
	(void)gpa;
	(void)size;
	*value = 0;
	access_seen(ctx);
}

static void mmio_write(void *ctx, unsigned vcpu, uint64_t gpa, unsigned size, uint64_t value)
{
	(void)vcpu;
	(void)gpa;
	(void)size;
	(void)value;
	access_seen(ctx);
}

static int msr_read(void *ctx, unsigned vcpu, uint32_t msr, uint64_t *value)
{
	(void)vcpu;
	(void)msr;
	*value = 0;
	access_seen(ctx);
	return 0;
}

static int msr_write(void *ctx, unsigned vcpu, uint32_t msr, uint64_t value)
{
	(void)vcpu;
	(void)msr;
	(void)value;
	access_seen(ctx);
	return 0;
}

static uint64_t cr8_read(void *ctx, unsigned vcpu)
{
	(void)ctx;
	(void)vcpu;
	return 0;
}

static void cr8_write(void *ctx, unsigned vcpu, uint64_t value)
{
	(void)ctx;
	(void)vcpu;
	(void)value;
}

/* ---- guest memory ---- */

static void put_u64(uint8_t *ram, uint64_t gpa, uint64_t value)
{
	memcpy(ram + gpa, &value, sizeof(value));
}

static void tables_put(uint8_t *ram)
{
	static const uint64_t gdt[] = {
		[SEL_KCODE / 8] = 0x00af9b000000ffff,
		[SEL_KDATA / 8] = 0x00cf93000000ffff,
		[SEL_UDATA / 8] = 0x00cff3000000ffff,
		[SEL_UCODE / 8] = 0x00affb000000ffff,
		[SEL_TSS / 8] = 0x00008b0000000067 | (uint64_t)TSS << 16,
		[SEL_TSS / 8 + 1] = 0,
	};

	put_u64(ram, PML4, PDPT | PTE);
	put_u64(ram, PDPT, PD_LOW | PTE);
	put_u64(ram, PDPT + (MMIO_GPA >> 30) * 8, PD_HIGH | PTE);
	for (unsigned n = 0; n < RAM_BYTES >> 21; n++)
		put_u64(ram, PD_LOW + n * 8, (uint64_t)n << 21 | PTE_LARGE);
	put_u64(ram, PD_HIGH + (MMIO_GPA >> 21 & 511) * 8, MMIO_GPA | PTE_LARGE);
	memcpy(ram + GDT, gdt, sizeof(gdt));
	put_u64(ram, TSS + 4, STACK);
}

static void gate_put(uint8_t *ram, unsigned vector, uint64_t handler)
{
	put_u64(ram, IDT + vector * 16,
		(handler & 0xffff) | SEL_KCODE << 16 | UINT64_C(0x8e) << 40 |
			(handler >> 16 & 0xffff) << 48);
}

static uint64_t kind_code(const struct kind_info *kind)
{
	return CODE + (uint64_t)(kind - kinds) * CODE_SIZE;
}

static void guest_fill(uint8_t *ram)
{
	static const uint8_t handler[] = {0x48, 0xcf};		       /* iretq */
	static const uint8_t handler_out[] = {0xe6, PORT, 0x48, 0xcf}; /* out; iretq */
	static const uint8_t hlt = 0xf4;

	tables_put(ram);
	memcpy(ram + HANDLER, handler, sizeof(handler));
	memcpy(ram + HANDLER_OUT, handler_out, sizeof(handler_out));
	gate_put(ram, VECTOR, HANDLER);
	gate_put(ram, VECTOR_OUT, HANDLER_OUT);
	for (const struct kind_info *kind = kinds; kind < kinds + KIND_COUNT; kind++) {
		uint8_t *at = ram + kind_code(kind);

		for (unsigned i = 0; i < kind->times; i++, at += kind->bytes)
			memcpy(at, kind->code, kind->bytes);
		*at = hlt;
	}
}

static struct vcpu_segment flat(uint16_t selector, uint16_t attr)
{
	return (struct vcpu_segment){.selector = selector, .attr = attr, .limit = UINT32_MAX};
}

/* The vCPU at the start of the kind's code. 0 or negative errno. */
static int guest_start(struct measure *m)
{
	bool user = m->kind->cpl == 3;
	struct vcpu_state s;

	vcpu_state_reset(&s);
	s.cr0 = 0x80010033;
	s.cr3 = PML4;
	s.cr4 = 0x6a0; /* PAE, PGE, OSFXSR, OSXMMEXCPT */
	s.efer = 0xd01;
	for (unsigned n = 0; n < SEG_COUNT; n++)
		s.seg[n] = user ? flat(SEL_UDATA, 0xcf3) : flat(SEL_KDATA, 0xc93);
	s.seg[SEG_CS] = user ? flat(SEL_UCODE, 0xafb) : flat(SEL_KCODE, 0xa9b);
	s.tr = (struct vcpu_segment){.selector = SEL_TSS, .attr = 0x8b, .base = TSS, .limit = 0x67};
	s.gdtr = (struct vcpu_table){.base = GDT, .limit = SEL_TSS + 15};
	s.idtr = (struct vcpu_table){.base = IDT, .limit = 0xfff};
	s.gpr[RSP] = STACK;
	s.gpr[RCX] = MSR_X2APIC_LVT0;
	s.gpr[R8] = MMIO_GPA;
	s.rip = kind_code(m->kind);
	m->last_ns = 0;
	return m->e->ops->state_set(m->e->v, &s);
}

/* Runs from where the vCPU is; false, and said, unless it ends as expected. */
static bool guest_run(struct measure *m, enum vcpu_exit_reason wanted)
{
	struct vcpu_exit exit;

	m->e->now = m;
	m->e->ops->run(m->e->v, &exit);
	m->e->now = NULL;
	if (exit.reason != wanted)
		failed(m, "run", &exit);
	return exit.reason == wanted;
}

static bool guest_restart(struct measure *m)
{
	int err = guest_start(m);

	if (err)
		failed(m, "setting the state",
		       &(struct vcpu_exit){.reason = VCPU_EXIT_ERROR, .error = err});
	return !err;
}

/* ---- kinds of one thread ---- */

static void accesses_run(struct measure *m)
{
	unsigned before = m->out->count;

	while (!done(m) && guest_restart(m) && guest_run(m, VCPU_EXIT_HLT)) {
		if (m->out->count == before)
			snprintf(m->out->why_not, sizeof(m->out->why_not),
				 "the accesses do not come out");
		before = m->out->count;
	}
}

/* Injection, the handler's IRETQ, a jump, and the next HLT's exit. */
static void hlt_run(struct measure *m)
{
	if (!guest_restart(m) || !guest_run(m, VCPU_EXIT_HLT))
		return;
	while (!done(m)) {
		uint64_t start_ns = clock_now_ns();

		m->e->ops->interrupt(m->e->v, VECTOR);
		if (!guest_run(m, VCPU_EXIT_HLT))
			return;
		sample_add(m, clock_now_ns() - start_ns);
	}
}

/* What entering and leaving costs where the guest does nothing. */
static void kick_latched_run(struct measure *m)
{
	if (!guest_restart(m))
		return;
	while (!done(m)) {
		uint64_t start_ns = clock_now_ns();

		m->e->ops->kick(m->e->v);
		if (!guest_run(m, VCPU_EXIT_KICKED))
			return;
		sample_add(m, clock_now_ns() - start_ns);
	}
}

/* ---- kinds of two threads ---- */

static void word_set(struct measure *m, enum word word)
{
	atomic_store(&m->word, word);
	syscall(SYS_futex, &m->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Until the word is one of the two. The alarm bounds it. */
static enum word word_wait(struct measure *m, enum word a, enum word b)
{
	uint32_t word;

	while ((word = atomic_load(&m->word)) != a && word != b)
		syscall(SYS_futex, &m->word, FUTEX_WAIT_PRIVATE, word, NULL, NULL, 0);
	return word;
}

static void *caller_thread(void *arg)
{
	struct measure *m = arg;

	while (word_wait(m, WORD_READY, WORD_STOP) == WORD_READY) {
		nanosleep(&(struct timespec){.tv_nsec = SETTLE_NS}, NULL);
		atomic_store(&m->called_ns, clock_now_ns());
		if (m->kind->run == hlt_wake_run) {
			word_set(m, WORD_GO);
		} else {
			atomic_store(&m->word, WORD_GO);
			m->e->ops->kick(m->e->v);
		}
	}
	return NULL;
}

/* As a machine does it: asleep in a futex while the CPU is halted, then the interrupt. */
static void hlt_wake_run(struct measure *m)
{
	if (!guest_restart(m) || !guest_run(m, VCPU_EXIT_HLT))
		return;
	while (!done(m)) {
		word_set(m, WORD_READY);
		word_wait(m, WORD_GO, WORD_GO);
		m->e->ops->interrupt(m->e->v, VECTOR_OUT);
		if (!guest_run(m, VCPU_EXIT_HLT))
			return;
	}
}

/* From the call until run has returned to the vCPU's thread. */
static void kick_run(struct measure *m)
{
	if (!guest_restart(m))
		return;
	while (!done(m)) {
		word_set(m, WORD_READY);
		if (!guest_run(m, VCPU_EXIT_KICKED))
			return;
		sample_add(m, clock_now_ns() - atomic_load(&m->called_ns));
	}
}

/* ---- engines ---- */

static void engine_lost(struct engine_run *e, const char *what, int err)
{
	snprintf(e->why_not, sizeof(e->why_not), "%s: %s", what, error_text(err));
}

static void cpuid_get(void *ctx, unsigned vcpu, uint32_t leaf, uint32_t subleaf,
		      struct vcpu_cpuid *out)
{
	struct cpuid_model model = {.tsc_hz = ((struct engine_run *)ctx)->tsc_hz};

	cpuid_read(&model, vcpu, leaf, subleaf, out);
}

static int vcpu_open(struct engine_run *e)
{
	struct vcpu_config config = {
		.vcpus = 1,
		.ram = e->ram,
		.ram_end = RAM_BYTES,
		.bus = {e, pio_read, pio_write, mmio_read, mmio_write, msr_read, msr_write,
			cr8_read, cr8_write},
		.cpuid = cpuid_get,
		.cpuid_ctx = e,
		.tsc_hz = e->tsc_hz,
		.tsc_origin_ns = clock_now_ns(),
	};
	int err = e->ops->shared_create(e->ram, RAM_BYTES, &e->shared);

	config.shared = e->shared;
	return err ? err : e->ops->create(&config, &e->v);
}

static void engine_open(struct engine_run *e)
{
	int err;

	e->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (e->ram == MAP_FAILED) {
		e->ram = NULL;
		engine_lost(e, "guest memory", -errno);
		return;
	}
	guest_fill(e->ram);
	err = vcpu_open(e);
	if (err)
		engine_lost(e, "a virtual machine of one CPU", err);
}

static void engine_close(struct engine_run *e)
{
	if (e->v)
		e->ops->destroy(e->v);
	if (e->shared)
		e->ops->shared_destroy(e->shared);
	if (e->ram)
		munmap(e->ram, RAM_BYTES);
}

static void kind_measure(struct engine_run *e, const struct kind_info *kind)
{
	struct measure m = {.e = e, .kind = kind, .out = &e->samples[kind - kinds]};
	pthread_t caller;

	alarm(KIND_LIMIT_S);
	if (!kind->threads) {
		kind->run(&m);
	} else if (pthread_create(&caller, NULL, caller_thread, &m) == 0) {
		kind->run(&m);
		word_set(&m, WORD_STOP);
		pthread_join(caller, NULL);
	} else {
		snprintf(m.out->why_not, sizeof(m.out->why_not), "no thread for it");
	}
	alarm(0);
}

static void engine_measure(struct engine_run *e, unsigned count)
{
	for (unsigned k = 0; k < KIND_COUNT; k++) {
		struct samples *s = &e->samples[k];

		s->wanted = kinds[k].threads ? (count - 1) / THREADS_SHARE + 1 : count;
		s->ns = calloc(s->wanted, sizeof(*s->ns));
		if (!s->ns) {
			engine_lost(e, "memory for samples", -ENOMEM);
			return;
		}
	}
	engine_open(e);
	for (unsigned k = 0; !e->why_not[0] && k < KIND_COUNT; k++)
		kind_measure(e, &kinds[k]);
	engine_close(e);
}

/* ---- the table ---- */

static int ns_compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void cell_print(struct engine_run *e, struct samples *s)
{
	if (e->why_not[0] || s->why_not[0]) {
		printf(" %10s %9s %9s", "-", "-", "-");
		return;
	}
	qsort(s->ns, s->count, sizeof(*s->ns), ns_compare);
	printf(" %10u %9llu %9llu", s->count, (unsigned long long)s->ns[(s->count - 1) / 2],
	       (unsigned long long)s->ns[(uint64_t)(s->count - 1) * 99 / 100]);
}

/* Every figure holds one of these. */
static uint64_t clock_read_ns(void)
{
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < 10000; i++) {
		uint64_t start_ns = clock_now_ns(), ns = clock_now_ns() - start_ns;

		least = ns < least ? ns : least;
	}
	return least;
}

static void table_print(struct engine_run *engines, unsigned count)
{
	printf("%-24s", "ns");
	for (unsigned i = 0; i < count; i++)
		printf(" %10s %9s %9s", engines[i].ops->name, "", "");
	printf("\n%-24s", "exit");
	for (unsigned i = 0; i < count; i++)
		printf(" %10s %9s %9s", "count", "p50", "p99");
	printf("\n");
	for (unsigned k = 0; k < KIND_COUNT; k++) {
		printf("%-24s", kinds[k].name);
		for (unsigned i = 0; i < count; i++)
			cell_print(&engines[i], &engines[i].samples[k]);
		printf("\n");
	}
	printf("reading the clock, in each figure: %llu ns\n", (unsigned long long)clock_read_ns());
}

static void reasons_print(const struct engine_run *e)
{
	if (e->why_not[0]) {
		printf("%s cannot run here: %s\n", e->ops->name, e->why_not);
		return;
	}
	for (unsigned k = 0; k < KIND_COUNT; k++)
		if (e->samples[k].why_not[0])
			printf("%s, %s: %s\n", e->ops->name, kinds[k].name, e->samples[k].why_not);
}

/* ---- the program ---- */

static void hung(int number)
{
	static const char text[] = "bench_exits: a kind of exit hangs\n";

	(void)number;
	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	_exit(EXIT_ERROR);
}

static void usage(FILE *to)
{
	fprintf(to,
		"usage: bench_exits [--count N]\n"
		"What an access or event that leaves the guest for our process costs, with KVM "
		"and\n"
		"with the software CPU: ns from one to the next, or from the other thread's call.\n"
		"  --count N  of each kind (%u; of those with two threads one in %u)\n"
		"Exits with 0; 2 for wrong usage; 1 if an exit hangs.\n",
		COUNT_DEFAULT, THREADS_SHARE);
}

/* -1 to go on, else an exit code. */
static int options_parse(int argc, char **argv, unsigned *count)
{
	static const struct option options[] = {
		{"count", required_argument, NULL, 'c'}, {"help", no_argument, NULL, 'h'}, {0}};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'c' && control_uint_parse(optarg, 1, COUNT_MAX, count) == 0)
			continue;
		usage(option == 'h' ? stdout : stderr);
		return option == 'h' ? EXIT_OK : EXIT_USAGE;
	}
	if (optind == argc)
		return -1;
	usage(stderr);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	struct engine_run engines[] = {{.ops = &vcpu_kvm_ops},
				       {.ops = &vcpu_soft_ops, .tsc_hz = LAYOUT_TSC_HZ}};
	struct kvm_tsc_report report;
	unsigned count = COUNT_DEFAULT;
	int code = options_parse(argc, argv, &count), err;

	if (code >= 0)
		return code;
	log_init("bench_exits", LOG_ERROR);
	signal(SIGALRM, hung);
	err = kvm_tsc_probe(&report);
	if (err)
		engine_lost(&engines[0], "/dev/kvm", err);
	engines[0].tsc_hz = report.host_hz;
	for (unsigned i = 0; i < 2; i++)
		if (!engines[i].why_not[0])
			engine_measure(&engines[i], count);
	table_print(engines, 2);
	for (unsigned i = 0; i < 2; i++) {
		reasons_print(&engines[i]);
		for (unsigned k = 0; k < KIND_COUNT; k++)
			free(engines[i].samples[k].ns);
	}
	if (!err && !report.offset_works)
		printf("KVM here has neither VT-x nor SVM: it emulates what runs at CPL 0, so its\n"
		       "figures are those of an emulated instruction, but for the kicks (CPL "
		       "3).\n");
	return EXIT_OK;
}
