/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a kernel and initrd, finds room for them, and reports what does not fit. */
#include "vmm/boot/loader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "vmm/boot/loader_internal.h"

int loader_fail(char *why, size_t why_size, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, why_size, fmt, ap);
	va_end(ap);
	return err;
}

uint64_t loader_low_end(const struct vm_shape *shape)
{
	return shape->ram_end < GPA_HOLE_START ? shape->ram_end : GPA_HOLE_START;
}

static int file_read_all(int fd, struct loader_file *file)
{
	uint64_t used = 0;

	file->data = malloc(file->size);
	if (!file->data)
		return -ENOMEM;
	while (used < file->size) {
		ssize_t n = read(fd, file->data + used, file->size - used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO; /* it shrank meanwhile */
		used += (uint64_t)n;
	}
	return 0;
}

static int file_open(const char *what, const char *path, uint64_t size_max,
		     struct loader_file *file, char *why, size_t why_size)
{
	struct stat st;
	int err = 0, fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return loader_fail(why, why_size, -errno, "cannot open the %s %s: %s", what, path,
				   error_text(errno));
	if (fstat(fd, &st) < 0)
		err = -errno;
	else if (!S_ISREG(st.st_mode) || st.st_size == 0)
		err = -EINVAL;
	else if ((uint64_t)st.st_size > size_max)
		err = -EFBIG;
	if (!err) {
		file->size = (uint64_t)st.st_size;
		err = file_read_all(fd, file);
	}
	close(fd);
	if (err)
		return loader_fail(why, why_size, err, "cannot use the %s %s: %s", what, path,
				   err == -EINVAL ? "empty, or not a regular file"
						  : error_text(err));
	return 0;
}

/* Below end if it fits above the kernel; page-aligned. */
static bool initrd_fits(const struct loader_image *image, uint64_t end, uint64_t *gpa)
{
	uint64_t size = image->initrd.size;

	if (end > image->initrd_end_max)
		end = image->initrd_end_max;
	if (end < size)
		return false;
	*gpa = (end - size) & ~(uint64_t)(PANGEA_PAGE_SIZE - 1);
	return *gpa >= image->kernel_end;
}

/* The boot slice's own memory first, where reading it costs no network; else anywhere low. */
static int initrd_place(struct loader_image *image, char *why, size_t why_size)
{
	const struct shape_slice *boot = &image->shape.slice[0];
	uint64_t low_end = loader_low_end(&image->shape);

	if (boot->ranges_count && initrd_fits(image, boot->ranges[0].end, &image->initrd_gpa))
		return 0;
	if (initrd_fits(image, low_end, &image->initrd_gpa))
		return 0;
	return loader_fail(why, why_size, -PANGEA_EINITRD,
			   "the initrd does not fit: it has %llu MiB, and beside the kernel there "
			   "are %llu MiB below %llu MiB",
			   (unsigned long long)image->initrd.size >> 20,
			   (unsigned long long)(low_end - image->kernel_end) >> 20,
			   (unsigned long long)low_end >> 20);
}

static int image_read(struct loader_image *image, const char *kernel_path, const char *initrd_path,
		      char *why, size_t why_size)
{
	int err =
		file_open("kernel", kernel_path, LOADER_KERNEL_MAX, &image->kernel, why, why_size);

	if (err)
		return err;
	if (loader_is_elf(&image->kernel))
		err = loader_parse_elf(image, why, why_size);
	else
		err = loader_parse_bzimage(image, why, why_size);
	if (err || !initrd_path || !*initrd_path)
		return err;
	err = file_open("initrd", initrd_path, LOADER_INITRD_MAX, &image->initrd, why, why_size);
	return err ? err : initrd_place(image, why, why_size);
}

int loader_open(const struct vm_shape *shape, const char *kernel_path, const char *initrd_path,
		const char *cmdline, struct loader_image **out, char *why, size_t why_size)
{
	struct loader_image *image = calloc(1, sizeof(*image));
	int err;

	if (!image)
		return loader_fail(why, why_size, -ENOMEM, "out of memory");
	image->shape = *shape;
	if (strlen(cmdline) >= sizeof(image->cmdline)) {
		err = loader_fail(why, why_size, -E2BIG,
				  "the command line is too long: %zu bytes, the limit is %d",
				  strlen(cmdline), CMDLINE_MAX - 1);
	} else {
		strcpy(image->cmdline, cmdline);
		err = image_read(image, kernel_path, initrd_path, why, why_size);
	}
	if (err) {
		loader_close(image);
		return err;
	}
	*out = image;
	return 0;
}

void loader_close(struct loader_image *image)
{
	if (!image)
		return;
	free(image->kernel.data);
	free(image->initrd.data);
	free(image);
}
