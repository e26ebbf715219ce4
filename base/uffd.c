/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a userfaultfd by what this process is allowed. */
#include "base/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than some distributions' <linux/userfaultfd.h>. */
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1 /* Linux 5.11 */
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00) /* Linux 6.1 */
#endif

#define FLAGS (O_CLOEXEC | O_NONBLOCK)

int uffd_open(bool kernel_faults)
{
	int device, fd = -1;

	if (kernel_faults && (device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC)) >= 0) {
		fd = ioctl(device, USERFAULTFD_IOC_NEW, FLAGS);
		close(device);
	}
	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd,
				  FLAGS | (kernel_faults ? 0 : UFFD_USER_MODE_ONLY));
	return fd < 0 ? -errno : fd;
}
