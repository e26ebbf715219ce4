/* SPDX-License-Identifier: Apache-2.0 */
/* The body of the HMAT, which tells the guest how far each node's memory is, in nanoseconds. */
#ifndef VMM_ACPI_HMAT_H
#define VMM_ACPI_HMAT_H

#include "vmm/boot/acpi_aml.h"
#include "vmm/machine/shape.h"

/* Appends what follows the table's header. Pure: any thread. */
void acpi_hmat_put(struct acpi_writer *w, const struct vm_shape *shape);

#endif
