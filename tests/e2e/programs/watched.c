/* SPDX-License-Identifier: Apache-2.0 */
/* What gdb is tried on in the guest: a variable that is written in a loop, and one that is read once. */
#include <stdio.h>

volatile int watched, other = 5, sum;

static void step(int i)
{
	for (int k = 0; k < 1000; k++)
		sum += k;
	watched = i * 7;
}

int main(void)
{
	for (int i = 1; i <= 3; i++)
		step(i);
	sum += other;
	printf("sum %d\n", sum);
	return 0;
}
