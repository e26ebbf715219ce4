/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the kernel and initrd loader: any file as a kernel, in memory of many sizes, with an
 * initrd. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/boot/loader.h"

#define MIB	    (UINT64_C(1) << 20)
#define RAM_MIB_MAX 128u
#define GUARD	    (64 * MIB)

/* The loader reads files: one in memory, by its name in /proc. */
static int file_make(const uint8_t *data, size_t size, char *path, size_t path_size)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	invariant(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, path_size, "/proc/self/fd/%d", fd);
	return fd;
}

/* Guest memory of exactly its size: behind it lies memory that nobody may touch. */
static void image_place(const struct loader_image *image, const struct vm_shape *shape)
{
	struct vcpu_state bsp;
	uint64_t size = shape->ram_end;
	uint8_t *ram = mmap(NULL, size + GUARD, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	invariant(ram != MAP_FAILED && mprotect(ram, size, PROT_READ | PROT_WRITE) == 0);
	loader_place(image, shape, ram, &bsp);
	munmap(ram, size + GUARD);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, data + size};
	unsigned vcpus[] = {1, 1}, slices = 1 + fuzz_byte(&in) % 2;
	unsigned mem_mib = 2 + (fuzz_byte(&in) * 2u) % RAM_MIB_MAX;
	uint64_t mem[] = {mem_mib / 2 * 2 * MIB, 4 * MIB};
	size_t initrd_size = 64u * fuzz_byte(&in);
	struct loader_image *image;
	struct vm_shape shape;
	char kernel[64], initrd[64] = "", why[256];
	int initrd_fd = -1;

	invariant(shape_init(&shape, slices, vcpus, mem) == 0);
	int kernel_fd = file_make(in.at, (size_t)(in.end - in.at), kernel, sizeof(kernel));
	if (initrd_size) {
		static const uint8_t zeroes[64 * 256];
		initrd_fd = file_make(zeroes, initrd_size, initrd, sizeof(initrd));
	}
	if (loader_open(&shape, kernel, initrd, "quiet", &image, why, sizeof(why)) == 0) {
		loader_debug_exit(image);
		image_place(image, &shape);
		loader_close(image);
	} else {
		invariant(memchr(why, 0, sizeof(why)) && why[0]);
	}
	close(kernel_fd);
	if (initrd_fd >= 0)
		close(initrd_fd);
	return 0;
}
