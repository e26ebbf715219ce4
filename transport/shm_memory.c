/* SPDX-License-Identifier: Apache-2.0 */
/* The memory that two slices of a host share: made and sealed by one, checked and mapped by both. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/error.h"
#include "transport/shm_link.h"

/* Since Linux 6.3; older headers lack it. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008u
#endif

#define SHM_BYTES (2 * sizeof(struct shm_ring))
/* With these nobody can take away what is mapped, so that no access to it can end in SIGBUS. */
#define SHM_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW)

static int memory_map(int fd, struct shm_ring **rings)
{
	void *mem = mmap(NULL, SHM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (mem == MAP_FAILED)
		return -errno;
	/* Guest pages lie in it: in no core dump, and no more of it than is used. */
	madvise(mem, SHM_BYTES, MADV_DONTDUMP);
	madvise(mem, SHM_BYTES, MADV_NOHUGEPAGE);
	*rings = mem;
	return 0;
}

int shm_memory_create(struct shm_ring **rings)
{
	int err = 0,
	    fd = memfd_create("pangea-link", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)SHM_BYTES) < 0 || fcntl(fd, F_ADD_SEALS, SHM_SEALS) < 0)
		err = -errno;
	if (!err)
		err = memory_map(fd, rings);
	if (!err)
		return fd;
	close(fd);
	return err;
}

/* Is it what shm_memory_create makes? Huge pages could run out under a reader, and raise SIGBUS. */
static int memory_check(int fd, char *why, size_t size)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	struct statfs fs;

	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return -errno;
	if (seals < 0 || !S_ISREG(st.st_mode) || fs.f_type != TMPFS_MAGIC)
		snprintf(why, size, "what it shares is no memory file");
	else if ((seals & SHM_SEALS) != SHM_SEALS)
		snprintf(why, size, "the memory that it shares is not sealed");
	else if (st.st_size != (off_t)SHM_BYTES)
		snprintf(why, size, "the memory that it shares has %lld bytes, not %zu",
			 (long long)st.st_size, SHM_BYTES);
	else
		return 0;
	return -PANGEA_EPROTOCOL;
}

int shm_memory_open(int fd, struct shm_ring **rings, char *why, size_t size)
{
	int err = memory_check(fd, why, size);

	if (err == -PANGEA_EPROTOCOL)
		return err;
	if (!err)
		err = memory_map(fd, rings);
	if (err)
		snprintf(why, size, "cannot map the memory that it shares: %s", error_text(err));
	return err;
}

void shm_memory_unmap(struct shm_ring *rings)
{
	munmap(rings, SHM_BYTES);
}
