/* SPDX-License-Identifier: Apache-2.0 */
/* What the RDMA device that a test program plays shall do wrong. */
#ifndef TESTS_FAKE_RDMA_H
#define TESTS_FAKE_RDMA_H

#include <stdbool.h>

/* Zeroes: nothing. */
struct fake_faults {
	bool registers_nothing; /* memory */
	bool makes_no_pairs;
	bool connects_no_pairs;
	bool accepts_nobody;
	bool finds_no_path;
	bool swallows; /* what is sent neither arrives nor ends */
	bool inlines_nothing;
	bool delays; /* what is sent stays in the sender's queue pair, until fake_release() or its end */
};

extern struct fake_faults fake_faults;

/* Sends what was delayed; from now on nothing is. */
void fake_release(void);
/* The device goes away: rdma_cm says so of all that it is used for. */
void fake_device_remove(void);

#endif
