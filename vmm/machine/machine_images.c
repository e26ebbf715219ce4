/* SPDX-License-Identifier: Apache-2.0 */
/* Maps images into the guest, and refuses stores to them as a bus does: they are dropped. */
#include "vmm/machine/machine_images.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/log.h"
#include "vmm/machine/machine_parts.h"

/* ---- mapping ---- */

/* Zeroes first, for what lies behind the file's end; whole pages of them cost nothing. */
static int image_map(uint8_t *ram, const struct shape_image *image, int fd)
{
	uint8_t *at = ram + image->start;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size < 0 || (uint64_t)st.st_size < image->bytes)
		return -EINVAL;
	if (mmap(at, image->end - image->start, PROT_READ,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
		return -errno;
	if (mmap(at, image->bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
		return -errno;
	return madvise(at, image->end - image->start, MADV_DONTDUMP) < 0 ? -errno : 0;
}

int machine_images_map(uint8_t *ram, const struct vm_shape *shape, const int *fds)
{
	int err = 0;

	for (unsigned i = 0; i < shape->images && !err; i++)
		err = image_map(ram, &shape->image[i], fds[i]);
	return err;
}

/* ---- on the bus: loads go to the mapping and never come here ---- */

static uint64_t image_read(void *dev, unsigned vcpu, uint64_t addr, unsigned size)
{
	(void)dev;
	(void)vcpu;
	(void)addr;
	return bus_ones(size);
}

static void image_write(void *dev, unsigned vcpu, uint64_t addr, unsigned size, uint64_t value)
{
	struct machine *m = dev;

	(void)value;
	if (!atomic_exchange_explicit(&m->image_stored, true, memory_order_relaxed))
		log_warn("vCPU %u stores %u bytes at 0x%llx, in a read-only image: such stores are "
			 "dropped "
			 "(said once)",
			 vcpu, size, (unsigned long long)addr);
}

static int image_attach(struct machine *m, const struct shape_image *image)
{
	static const struct bus_ops ops = {image_read, image_write};
	uint64_t bytes = image->end - image->start;
	int err = bus_add_mmio(&m->bus, image->start, bytes, &ops, m);

	return err ? err : m->ops->image_add(m->vcpu_shared, image->start, bytes);
}

int machine_images_attach(struct machine *m)
{
	int err = m->shape.images && !m->ops->image_add ? -ENOTSUP : 0;

	for (unsigned i = 0; i < m->shape.images && !err; i++)
		err = image_attach(m, &m->shape.image[i]);
	return err;
}
