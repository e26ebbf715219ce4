/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the local APIC share with each other and nobody else. */
#ifndef VMM_APIC_PARTS_H
#define VMM_APIC_PARTS_H

#include "vmm/apic/apic.h"

/* apic.c; vCPU thread but for post and error, which any thread may call. */
uint32_t apic_ppr(const struct apic *a);
void apic_recheck(struct apic *a);
void apic_eoi(struct apic *a);
void apic_post(struct apic *a, uint8_t vector, bool level);
void apic_error(struct apic *a, uint32_t bit);

/* apic_timer.c; vCPU thread. divide is the register's value. */
void apic_timer_reset(struct apic *a);
void apic_timer_initial_write(struct apic *a, uint32_t count);
uint32_t apic_timer_initial_read(struct apic *a);
uint32_t apic_timer_current(struct apic *a);
void apic_timer_divide_write(struct apic *a, uint32_t divide);
uint32_t apic_timer_divide_read(struct apic *a);

#endif
