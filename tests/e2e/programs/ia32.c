/* SPDX-License-Identifier: Apache-2.0 */
/* A 32-bit program without a library: system calls by int $0x80, instructions that only 32-bit code has, segments. */
#include <stdint.h>

static unsigned good, tried;

static long call3(long number, long a, long b, long c)
{
	long result;

	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(number), "b"(a), "c"(b), "d"(c)
			 : "memory");
	return result;
}

static void check(int right)
{
	tried++;
	good += right != 0;
}

/* Decimal arithmetic and its flags: 79 + 35 = 114, 35 - 47 = 88 with a borrow; no 64-bit code has these. */
static void decimal_try(void)
{
	uint32_t al, carry;

	__asm__("movb $0x79, %%al; addb $0x35, %%al; daa; movzbl %%al, %%eax; setc %%cl; movzbl "
		"%%cl, %%ecx"
		: "=a"(al), "=c"(carry));
	check(al == 0x14 && carry == 1);
	__asm__("movb $0x35, %%al; subb $0x47, %%al; das; movzbl %%al, %%eax; setc %%cl; movzbl "
		"%%cl, %%ecx"
		: "=a"(al), "=c"(carry));
	check(al == 0x88 && carry == 1);
	__asm__("movw $0x0008, %%ax; addb $5, %%al; aaa; movzwl %%ax, %%eax" : "=a"(al));
	check(al == 0x0103);
	__asm__("movw $57, %%ax; aam; movzwl %%ax, %%eax" : "=a"(al));
	check(al == 0x0507);
	__asm__("movw $0x0507, %%ax; aad; movzwl %%ax, %%eax" : "=a"(al));
	check(al == 57);
}

/* All registers to the stack and back, and one-byte increments, whose opcodes are prefixes in 64-bit code. */
static void stack_try(void)
{
	uint32_t sum;

	__asm__ volatile("movl $7, %%eax; pushal; movl $1, %%eax; movl $2, %%ecx; popal; .byte "
			 "0x40; .byte 0x40"
			 : "=a"(sum)
			 :
			 : "memory");
	check(sum == 9);
	__asm__ volatile("pushfl; popl %0" : "=r"(sum));
	check((sum & 2) != 0);
}

/* Code and data segments of a 32-bit process, and one of its own by set_thread_area. */
static void segments_try(void)
{
	static uint32_t place[4] = {11, 22, 33, 44};
	struct {
		uint32_t entry, base, limit, flags;
	} desc = {~0u, (uint32_t)place, 0xfffff, 0x51};
	uint32_t cs, value;

	__asm__("movl %%cs, %0" : "=r"(cs));
	check((cs & 3) == 3);
	check(call3(243, (long)&desc, 0, 0) == 0);
	__asm__ volatile("movw %w1, %%gs; movl %%gs:8, %0" : "=r"(value) : "r"(desc.entry * 8 + 3));
	check(value == 33);
}

/* Addresses and products wrap at 32 bits; a 64-bit quotient by two registers. */
static void width_try(void)
{
	uint32_t low, high, base = 0xfffffff0u, quotient, rest;

	__asm__("mull %3" : "=a"(low), "=d"(high) : "a"(0xdeadbeefu), "r"(0xcafebabeu));
	check(((uint64_t)high << 32 | low) == UINT64_C(0xdeadbeef) * 0xcafebabe);
	__asm__("divl %4" : "=a"(quotient), "=d"(rest) : "a"(5), "d"(3), "r"(7u));
	check(quotient == 0x6db6db6e && rest == 3);
	__asm__("leal 0x20(%1), %0" : "=r"(low) : "r"(base));
	check(low == 0x10);
}

void _start(void)
{
	char text[] = "ia32: 00 of 00\n";

	decimal_try();
	stack_try();
	segments_try();
	width_try();
	text[6] = (char)('0' + good / 10);
	text[7] = (char)('0' + good % 10);
	text[12] = (char)('0' + tried / 10);
	text[13] = (char)('0' + tried % 10);
	call3(4, 1, (long)text, sizeof(text) - 1);
	call3(1, good != tried, 0, 0);
	__builtin_unreachable();
}
