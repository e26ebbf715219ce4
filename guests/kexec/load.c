/* SPDX-License-Identifier: Apache-2.0 */
/* Loads a kernel into the guest's kernel, to be started now or by a panic. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <linux/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef KEXEC_FILE_ON_CRASH
#define KEXEC_FILE_ON_CRASH 2ul
#endif

int main(int argc, char **argv)
{
	int kernel, initrd;
	unsigned long flags;

	if (argc != 4 && argc != 5) {
		fprintf(stderr, "usage: kexec-load KERNEL INITRD COMMANDLINE [panic]\n"
				"starts it at once, or with panic: leaves it for a panic\n");
		return 2;
	}
	kernel = open(argv[1], O_RDONLY | O_CLOEXEC);
	initrd = open(argv[2], O_RDONLY | O_CLOEXEC);
	if (kernel < 0 || initrd < 0) {
		fprintf(stderr, "kexec-load: cannot open the files: %s\n", strerror(errno));
		return 1;
	}
	flags = argc == 5 ? KEXEC_FILE_ON_CRASH : 0;
	if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(argv[3]) + 1, argv[3], flags)) {
		fprintf(stderr, "kexec-load: the kernel refuses it: %s\n", strerror(errno));
		return 1;
	}
	if (flags)
		return 0;
	sync();
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
	fprintf(stderr, "kexec-load: the kernel does not start it: %s\n", strerror(errno));
	return 1;
}
