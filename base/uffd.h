/* SPDX-License-Identifier: Apache-2.0 */
/* The ways to a userfaultfd: by privilege of the process, or by the device's permissions. */
#ifndef BASE_UFFD_H
#define BASE_UFFD_H

#include <stdbool.h>

/*
 * A new userfaultfd, not yet told which features it is to have; the caller closes it. It does not
 * block and is closed on exec. kernel_faults: faults of the kernel's own accesses come too, as KVM
 * makes them; that takes access to /dev/userfaultfd, CAP_SYS_PTRACE or
 * vm.unprivileged_userfaultfd=1. Any thread. Or a negative errno, and nothing is logged.
 */
int uffd_open(bool kernel_faults);

#endif
