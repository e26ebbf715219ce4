/* SPDX-License-Identifier: Apache-2.0 */
/* How fast the software CPU executes small loops of several kinds, in guest instructions a second.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/error.h"
#include "vmm/cpu/vcpu.h"

#define RAM_BYTES  (UINT64_C(16) << 20)
#define PML4	   0x1000u
#define PDPT	   0x2000u
#define PD	   0x3000u
#define STACK	   0x9000u
#define CODE	   0x10000u
#define DATA	   0x100000u
#define DATA_BYTES 0x80000u
#define COPY_TO	   0x200000u
#define COPY_BYTES 256u

/* Each loop runs RCX times and ends with HLT. */
static const uint8_t code_alu[] = {
	0x48, 0x8b, 0x07,		    /* 0: mov (%rdi),%rax */
	0x48, 0x01, 0xd8,		    /* 3: add %rbx,%rax */
	0x48, 0x89, 0x07,		    /* 6: mov %rax,(%rdi) */
	0x48, 0x8d, 0x14, 0x40,		    /* 9: lea (%rax,%rax,2),%rdx */
	0x48, 0x31, 0xc2,		    /* d: xor %rax,%rdx */
	0x48, 0xc1, 0xea, 0x03,		    /* 10: shr $0x3,%rdx */
	0x81, 0xe2, 0xff, 0x00, 0x00, 0x00, /* 14: and $0xff,%edx */
	0x48, 0x01, 0xd3,		    /* 1a: add %rdx,%rbx */
	0x48, 0x29, 0xde,		    /* 1d: sub %rbx,%rsi */
	0x49, 0xff, 0xc0,		    /* 20: inc %r8 */
	0x48, 0xff, 0xc9,		    /* 23: dec %rcx */
	0x75, 0xd8,			    /* 26: jne 0x0 */
	0xf4,				    /* 28: hlt */
};

static const uint8_t code_call[] = {
	0x48, 0x89, 0xca,	      /* 0: mov %rcx,%rdx */
	0xe8, 0x09, 0x00, 0x00, 0x00, /* 3: call 0x11 */
	0x48, 0x01, 0xc3,	      /* 8: add %rax,%rbx */
	0x48, 0xff, 0xc9,	      /* b: dec %rcx */
	0x75, 0xf0,		      /* e: jne 0x0 */
	0xf4,			      /* 10: hlt */
	0x55,			      /* 11: push %rbp */
	0x48, 0x89, 0xe5,	      /* 12: mov %rsp,%rbp */
	0x48, 0x8b, 0x45, 0x08,	      /* 15: mov 0x8(%rbp),%rax */
	0x48, 0x01, 0xd0,	      /* 19: add %rdx,%rax */
	0x5d,			      /* 1c: pop %rbp */
	0xc3,			      /* 1d: ret */
};

static const uint8_t code_chase[] = {
	0x48, 0x8b, 0x3f, /* 0: mov (%rdi),%rdi */
	0x48, 0x8b, 0x3f, /* 3: mov (%rdi),%rdi */
	0x48, 0x8b, 0x3f, /* 6: mov (%rdi),%rdi */
	0x48, 0x8b, 0x3f, /* 9: mov (%rdi),%rdi */
	0x48, 0xff, 0xc9, /* c: dec %rcx */
	0x75, 0xef,	  /* f: jne 0x0 */
	0xf4,		  /* 11: hlt */
};

static const uint8_t code_copy[] = {
	0x48, 0x89, 0xcb, /* 0: mov %rcx,%rbx */
	0x4c, 0x89, 0xc6, /* 3: mov %r8,%rsi */
	0x4c, 0x89, 0xcf, /* 6: mov %r9,%rdi */
	0x4c, 0x89, 0xd1, /* 9: mov %r10,%rcx */
	0xf3, 0xa4,	  /* c: rep movsb %ds:(%rsi),%es:(%rdi) */
	0x48, 0x89, 0xd9, /* e: mov %rbx,%rcx */
	0x48, 0xff, 0xc9, /* 11: dec %rcx */
	0x75, 0xea,	  /* 14: jne 0x0 */
	0xf4,		  /* 16: hlt */
};

static const uint8_t code_branch[] = {
	0x69, 0xdb, 0x0d, 0x66, 0x19, 0x00, /* 0: imul $0x19660d,%ebx,%ebx */
	0x81, 0xc3, 0x5f, 0xf3, 0x6e, 0x3c, /* 6: add $0x3c6ef35f,%ebx */
	0x89, 0xd8,			    /* c: mov %ebx,%eax */
	0xc1, 0xe8, 0x18,		    /* e: shr $0x18,%eax */
	0xa8, 0x01,			    /* 11: test $0x1,%al */
	0x74, 0x06,			    /* 13: je 0x1b */
	0x48, 0x83, 0xc6, 0x03,		    /* 15: add $0x3,%rsi */
	0xeb, 0x04,			    /* 19: jmp 0x1f */
	0x48, 0x83, 0xee, 0x05,		    /* 1b: sub $0x5,%rsi */
	0x83, 0xf8, 0x60,		    /* 1f: cmp $0x60,%eax */
	0x72, 0x0a,			    /* 22: jb 0x2e */
	0x3d, 0xc0, 0x00, 0x00, 0x00,	    /* 24: cmp $0xc0,%eax */
	0x77, 0x0a,			    /* 29: ja 0x35 */
	0x49, 0xff, 0xc0,		    /* 2b: inc %r8 */
	0x48, 0x31, 0xf2,		    /* 2e: xor %rsi,%rdx */
	0xa8, 0x02,			    /* 31: test $0x2,%al */
	0x75, 0x07,			    /* 33: jne 0x3c */
	0x0f, 0xb6, 0xc0,		    /* 35: movzbl %al,%eax */
	0x4c, 0x8b, 0x0c, 0xc7,		    /* 38: mov (%rdi,%rax,8),%r9 */
	0x48, 0xff, 0xc9,		    /* 3c: dec %rcx */
	0x75, 0xbf,			    /* 3f: jne 0x0 */
	0xf4,				    /* 41: hlt */
};

struct mix {
	const char *name, *what;
	const uint8_t *code;
	size_t bytes;
	uint64_t loops; /* by default */
};

static const struct mix mixes[] = {
	{"alu", "integer loop with load and store", code_alu, sizeof(code_alu), 8000000},
	{"call", "call, frame, ret", code_call, sizeof(code_call), 6000000},
	{"chase", "pointer chase in 512 KiB", code_chase, sizeof(code_chase), 10000000},
	{"branch", "unpredictable branches", code_branch, sizeof(code_branch), 6000000},
	{"copy", "rep movsb of 256 bytes", code_copy, sizeof(code_copy), 5000000},
};
#define MIX_COUNT (sizeof(mixes) / sizeof(mixes[0]))

static void cpuid_none(void *ctx, unsigned vcpu, uint32_t leaf, uint32_t subleaf,
		       struct vcpu_cpuid *out)
{
	(void)ctx;
	(void)vcpu;
	(void)leaf;
	(void)subleaf;
	*out = (struct vcpu_cpuid){0};
}

static void ram_put64(uint8_t *ram, uint64_t gpa, uint64_t value)
{
	memcpy(ram + gpa, &value, 8);
}

/* Maps the RAM to itself, in large pages. */
static void ram_map(uint8_t *ram)
{
	ram_put64(ram, PML4, PDPT | 3);
	ram_put64(ram, PDPT, PD | 3);
	for (uint64_t n = 0; n < RAM_BYTES >> 21; n++)
		ram_put64(ram, PD + n * 8, n << 21 | 0x83);
}

/* A cycle through all 64-byte lines of the data area: the stride is odd, so it reaches each. */
static void ram_chain(uint8_t *ram)
{
	const uint64_t lines = DATA_BYTES / 64, stride = 2731;

	for (uint64_t n = 0; n < lines; n++)
		ram_put64(ram, DATA + n * 64, DATA + (n + stride) % lines * 64);
}

/* Ring 0, 64-bit mode, flat segments. */
static void state_prepare(struct vcpu_state *s, uint64_t loops)
{
	vcpu_state_reset(s);
	s->cr0 = 0x80050033;
	s->cr3 = PML4;
	s->cr4 = 0x20;
	s->efer = 0x500;
	for (unsigned n = 0; n < SEG_COUNT; n++)
		s->seg[n] = (struct vcpu_segment){0, 0xffffffff, 0x10, 0xc93};
	s->seg[SEG_CS] = (struct vcpu_segment){0, 0xffffffff, 0x08, 0xa9b};
	s->rip = CODE;
	s->rflags = 2;
	s->gpr[RSP] = STACK;
	s->gpr[RCX] = loops;
	s->gpr[RDI] = DATA;
	s->gpr[R8] = DATA;
	s->gpr[R9] = COPY_TO;
	s->gpr[R10] = COPY_BYTES;
	s->gpr[RBX] = 12345;
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Runs one mix; its guest instructions a second in *rate. 0 or a negative code. */
static int mix_run(struct vcpu *v, const struct vcpu_config *config, const struct mix *mix,
		   uint64_t loops, double *rate)
{
	uint8_t *ram = config->ram;
	struct vcpu_state state;
	struct vcpu_exit exit = {0};
	uint64_t before;
	double start;
	int err;

	ram_map(ram);
	ram_chain(ram);
	memcpy(ram + CODE, mix->code, mix->bytes);
	state_prepare(&state, loops);
	v->ops->memory_changed(config->shared, CODE, mix->bytes);
	err = v->ops->state_set(v, &state);
	if (err)
		return err;
	before = v->ops->instructions(v);
	start = now_s();
	v->ops->run(v, &exit);
	*rate = (double)(v->ops->instructions(v) - before) / (now_s() - start);
	return exit.reason == VCPU_EXIT_HLT ? 0 : -EIO;
}

static int bench(struct vcpu *v, const struct vcpu_config *config, double scale)
{
	double logs = 0;

	printf("%-8s %-34s %12s\n", "mix", "", "M insn/s");
	for (size_t n = 0; n < MIX_COUNT; n++) {
		double rate = 0;
		const uint64_t loops = (uint64_t)((double)mixes[n].loops * scale) + 1;
		const int err = mix_run(v, config, &mixes[n], loops, &rate);

		if (err)
			return err;
		printf("%-8s %-34s %12.1f\n", mixes[n].name, mixes[n].what, rate / 1e6);
		logs += log(rate / 1e6);
	}
	printf("%-8s %-34s %12.1f\n", "mean", "geometric", exp(logs / MIX_COUNT));
	return 0;
}

int main(int argc, char **argv)
{
	struct vcpu_config config = {
		.vcpus = 1, .ram_end = RAM_BYTES, .cpuid = cpuid_none, .tsc_hz = 1000000000};
	const double scale = argc > 1 ? strtod(argv[1], NULL) : 1;
	struct vcpu *v = NULL;
	int err;

	if (argc > 2 || !(scale > 0 && scale <= 1000)) {
		fprintf(stderr, "usage: bench_cpu [SCALE]: loops as a multiple, up to 1000\n");
		return EXIT_USAGE;
	}
	config.ram =
		mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (config.ram == MAP_FAILED)
		return EXIT_ERROR;
	err = vcpu_soft_ops.shared_create(config.ram, RAM_BYTES, &config.shared);
	if (err)
		goto out;
	err = vcpu_soft_ops.create(&config, &v);
	if (!err) {
		err = bench(v, &config, scale);
		vcpu_soft_ops.destroy(v);
	}
	vcpu_soft_ops.shared_destroy(config.shared);
out:
	munmap(config.ram, RAM_BYTES);
	if (err)
		fprintf(stderr, "bench_cpu: %s\n", error_text(err));
	return err ? EXIT_ERROR : EXIT_OK;
}
