/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory on a memfd and userfaultfd: minor faults and write protection on the vCPUs' mapping.
 */
#include "dsm/pages/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/uffd.h"

/* Newer than some distributions' <linux/userfaultfd.h>. */
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12) /* Linux 5.19 */
#endif
#ifndef UFFDIO_CONTINUE_MODE_WP
#define UFFDIO_CONTINUE_MODE_WP ((uint64_t)1 << 1) /* Linux 6.4 */
#endif

#define REGISTER_MODE                                                                              \
	(UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MINOR)

#define FEATURES_NEEDED                                                                            \
	(UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_MISSING_SHMEM |    \
	 UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_WP_HUGETLBFS_SHMEM)

/* Inaccessible space behind guest memory, so that an access across its end faults too. */
#define GUARD_SIZE UINT64_C(65536)

/* The kernel asks for another attempt while the address space changes; it never does for long. */
#define ATTEMPTS_MAX 1000000

struct pages {
	uint8_t *g; /* what vCPUs use */
	uint8_t *a; /* the alias */
	uint64_t ram_end;
	uint64_t g_size, a_size; /* of the mappings, guard included */
	int memfd;
	int uffd;
	bool alone;
	/* alone: the pages that are unmapped, gfn + 1 each; 0: free */
	uint64_t unmapped[PAGES_ALONE_MAX];
};

uint8_t *pages_ram(const struct pages *pages)
{
	return pages->g;
}

uint8_t *pages_frame(const struct pages *pages, uint64_t gfn)
{
	return pages->a + (gfn << PAGE_SHIFT);
}

bool pages_is_ram(const struct pages *pages, uint64_t gfn)
{
	uint64_t gpa = gfn << PAGE_SHIFT;

	if (gfn >= pages->ram_end >> PAGE_SHIFT)
		return false;
	return gpa < GPA_HOLE_START || gpa >= GPA_HOLE_END;
}

int pages_fault_fd(const struct pages *pages)
{
	return pages->uffd;
}

static uint64_t g_address(const struct pages *pages, uint64_t gfn)
{
	return (uint64_t)(uintptr_t)pages->g + (gfn << PAGE_SHIFT);
}

int pages_read_faults(struct pages *pages, struct page_fault faults[PAGE_FAULTS_MAX])
{
	struct uffd_msg msgs[PAGE_FAULTS_MAX];
	ssize_t n = read(pages->uffd, msgs, sizeof(msgs));
	int count = 0;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	for (size_t i = 0; i < (size_t)n / sizeof(msgs[0]); i++) {
		uint64_t flags = msgs[i].arg.pagefault.flags;

		if (msgs[i].event != UFFD_EVENT_PAGEFAULT)
			continue;
		faults[count].gfn =
			(msgs[i].arg.pagefault.address - (uintptr_t)pages->g) >> PAGE_SHIFT;
		faults[count].tid = msgs[i].arg.pagefault.feat.ptid;
		faults[count++].write =
			flags & (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP);
	}
	return count;
}

int pages_wake(struct pages *pages, uint64_t gfn)
{
	struct uffdio_range range = {g_address(pages, gfn), PANGEA_PAGE_SIZE};

	return ioctl(pages->uffd, UFFDIO_WAKE, &range) < 0 ? -errno : 0;
}

/* Reading a hole of the file through A fills it with a zero page. */
void pages_touch_frame(const struct pages *pages, uint64_t gfn)
{
	(void)*(volatile const uint8_t *)pages_frame(pages, gfn);
}

static int page_continue(struct pages *pages, uint64_t gfn, uint64_t mode)
{
	for (int i = 0; i < ATTEMPTS_MAX; i++) {
		struct uffdio_continue arg = {.range = {g_address(pages, gfn), PANGEA_PAGE_SIZE},
					      .mode = mode};

		if (ioctl(pages->uffd, UFFDIO_CONTINUE, &arg) == 0)
			return 0;
		if (errno == EFAULT)
			pages_touch_frame(pages, gfn);
		else if (errno != EAGAIN)
			return -errno;
	}
	return -EAGAIN;
}

static int page_writeprotect(struct pages *pages, uint64_t gfn, uint64_t mode)
{
	for (int i = 0; i < ATTEMPTS_MAX; i++) {
		struct uffdio_writeprotect arg = {
			.range = {g_address(pages, gfn), PANGEA_PAGE_SIZE}, .mode = mode};

		if (ioctl(pages->uffd, UFFDIO_WRITEPROTECT, &arg) == 0)
			return 0;
		if (errno != EAGAIN)
			return -errno;
	}
	return -EAGAIN;
}

/* ---- alone: registered only while it is unmapped ---- */

static int page_register(struct pages *pages, uint64_t gfn)
{
	struct uffdio_register arg = {.range = {g_address(pages, gfn), PANGEA_PAGE_SIZE},
				      .mode = REGISTER_MODE};

	return ioctl(pages->uffd, UFFDIO_REGISTER, &arg) < 0 ? -errno : 0;
}

/* Wakes who waits for it, too. */
static int page_unregister(struct pages *pages, uint64_t gfn)
{
	struct uffdio_range range = {g_address(pages, gfn), PANGEA_PAGE_SIZE};

	return ioctl(pages->uffd, UFFDIO_UNREGISTER, &range) < 0 ? -errno : 0;
}

static uint64_t *unmapped_slot(struct pages *pages, uint64_t tag)
{
	for (unsigned i = 0; i < PAGES_ALONE_MAX; i++)
		if (pages->unmapped[i] == tag)
			return &pages->unmapped[i];
	return NULL;
}

static int alone_unmap(struct pages *pages, uint64_t gfn)
{
	uint64_t *slot = unmapped_slot(pages, gfn + 1);
	int err;

	if (slot)
		return 0;
	slot = unmapped_slot(pages, 0);
	invariant(slot);
	err = page_register(pages, gfn);
	if (!err)
		*slot = gfn + 1;
	return err;
}

static int alone_map(struct pages *pages, uint64_t gfn)
{
	uint64_t *slot = unmapped_slot(pages, gfn + 1);

	if (!slot)
		return 0;
	*slot = 0;
	return page_unregister(pages, gfn);
}

/* ---- transitions ---- */

int pages_map_shared(struct pages *pages, uint64_t gfn)
{
	int err;

	if (pages->alone)
		return alone_map(pages, gfn);
	err = page_continue(pages, gfn, UFFDIO_CONTINUE_MODE_WP);

	/* Mapped already; a CONTINUE that maps nothing wakes nobody. */
	return err == -EEXIST ? pages_wake(pages, gfn) : err;
}

int pages_map_exclusive(struct pages *pages, uint64_t gfn)
{
	int err;

	if (pages->alone)
		return alone_map(pages, gfn);
	err = page_continue(pages, gfn, 0);
	/* Mapped already, perhaps read-only. */
	return err == -EEXIST ? pages_upgrade(pages, gfn) : err;
}

/*
 * Makes frames of zeroes and maps them, as far as no frame is there: one walk through the page
 * tables and the file for what fallocate and CONTINUE take two for. Returns how many pages.
 */
static uint64_t holes_map(struct pages *pages, uint64_t gfn, uint64_t count)
{
	struct uffdio_zeropage arg = {.range = {g_address(pages, gfn), count << PAGE_SHIFT}};

	if (ioctl(pages->uffd, UFFDIO_ZEROPAGE, &arg) == 0)
		return count;
	return arg.zeropage > 0 ? (uint64_t)arg.zeropage >> PAGE_SHIFT : 0;
}

/* Maps frames that are there. Returns how many pages. */
static uint64_t frames_map(struct pages *pages, uint64_t gfn, uint64_t count)
{
	struct uffdio_continue arg = {.range = {g_address(pages, gfn), count << PAGE_SHIFT}};

	if (ioctl(pages->uffd, UFFDIO_CONTINUE, &arg) == 0)
		return count;
	return arg.mapped > 0 ? (uint64_t)arg.mapped >> PAGE_SHIFT : 0;
}

int pages_map_run(struct pages *pages, uint64_t gfn, uint64_t count)
{
	uint64_t done = 0;

	while (done < count) {
		uint64_t some = 0;
		int err;

		if (!pages->alone)
			some = holes_map(pages, gfn + done, count - done);
		if (!pages->alone && some == 0)
			some = frames_map(pages, gfn + done, count - done);
		if (some == 0) {
			/* Mapped already, or the kernel wants another attempt: this one alone. */
			err = pages_map_exclusive(pages, gfn + done);
			if (err)
				return err;
			some = 1;
		}
		done += some;
	}
	return 0;
}

int pages_upgrade(struct pages *pages, uint64_t gfn)
{
	return pages->alone ? alone_map(pages, gfn) : page_writeprotect(pages, gfn, 0);
}

int pages_protect(struct pages *pages, uint64_t gfn)
{
	return page_writeprotect(pages, gfn, UFFDIO_WRITEPROTECT_MODE_WP);
}

int pages_unmap(struct pages *pages, uint64_t gfn)
{
	void *at = pages->g + (gfn << PAGE_SHIFT);
	int err = pages->alone ? alone_unmap(pages, gfn) : 0;

	if (err)
		return err;
	for (int i = 0; i < ATTEMPTS_MAX; i++) {
		if (madvise(at, PANGEA_PAGE_SIZE, MADV_DONTNEED) == 0)
			return 0;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	}
	return -EAGAIN;
}

bool pages_frame_is_zero(const struct pages *pages, uint64_t gfn)
{
	const uint64_t *word = (const uint64_t *)pages_frame(pages, gfn);

	/* Eight words at a time: most pages that are not zero show it in the first line. */
	for (unsigned i = 0; i < PANGEA_PAGE_SIZE / 8; i += 8)
		if (word[i] | word[i + 1] | word[i + 2] | word[i + 3] | word[i + 4] | word[i + 5] |
		    word[i + 6] | word[i + 7])
			return false;
	return true;
}

void pages_zero_frame(struct pages *pages, uint64_t gfn)
{
	/* A frame that was never used is zero as it comes. */
	if (!pages_frame_is_zero(pages, gfn))
		memset(pages_frame(pages, gfn), 0, PANGEA_PAGE_SIZE);
}

int pages_drop_frames(struct pages *pages, uint64_t gfn, uint64_t count)
{
	if (fallocate(pages->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      (off_t)(gfn << PAGE_SHIFT), (off_t)(count << PAGE_SHIFT)) < 0)
		return -errno;
	return 0;
}

uint64_t pages_frame_bytes(const struct pages *pages)
{
	struct stat st;

	return fstat(pages->memfd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static void refusal_log(bool kernel_faults, int err)
{
	if (kernel_faults)
		log_error("userfaultfd for the kernel's own faults, which KVM needs, is refused "
			  "(%s): allow this user to open /dev/userfaultfd, or set "
			  "vm.unprivileged_userfaultfd=1",
			  error_text(err));
	else
		log_error("userfaultfd is refused (%s): it needs Linux 6.4 or later and must not "
			  "be blocked by a seccomp filter",
			  error_text(err));
}

/* User mode only needs no privilege: enough where the kernel never touches G for us. */
static int faults_open(bool kernel_faults)
{
	struct uffdio_api api = {.api = UFFD_API, .features = FEATURES_NEEDED};
	int fd = uffd_open(kernel_faults);

	if (fd < 0)
		refusal_log(kernel_faults, fd);
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) == 0)
		return fd;
	close(fd);
	log_error("this kernel's userfaultfd lacks minor faults or write protection on shared "
		  "memory: Linux 6.4 or later is needed");
	return -ENOSYS;
}

/* Maps the RAM part [start, end) of the file into the reservation at base. */
static int part_map(const struct pages *pages, uint8_t *base, uint64_t start, uint64_t end)
{
	void *at = mmap(base + start, end - start, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_FIXED | MAP_NORESERVE, pages->memfd, (off_t)start);

	if (at == MAP_FAILED)
		return -errno;
	/* A huge page would be taken away and brought back whole; alone, nothing is. */
	madvise(at, end - start, pages->alone ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	/* What the guest holds is nobody's affair, and would make a core dump as large as the VM. */
	return madvise(at, end - start, MADV_DONTDUMP) < 0 ? -errno : 0;
}

/* Calls part for each piece of RAM: below the hole, and above. */
static int each_part(const struct pages *pages, uint8_t *base,
		     int (*part)(const struct pages *, uint8_t *, uint64_t, uint64_t))
{
	uint64_t low_end = pages->ram_end < GPA_HOLE_START ? pages->ram_end : GPA_HOLE_START;
	int err = part(pages, base, 0, low_end);

	if (!err && pages->ram_end > GPA_HOLE_END)
		err = part(pages, base, GPA_HOLE_END, pages->ram_end);
	return err;
}

/* Reserves address space and maps RAM into it; what is not RAM stays inaccessible. */
static int view_map(const struct pages *pages, uint64_t size, uint8_t **view)
{
	void *base =
		mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int err;

	if (base == MAP_FAILED)
		return -errno;
	err = each_part(pages, base, part_map);
	if (err)
		munmap(base, size);
	else
		*view = base;
	return err;
}

static int part_register(const struct pages *pages, uint8_t *base, uint64_t start, uint64_t end)
{
	struct uffdio_register arg = {.range = {(uint64_t)(uintptr_t)base + start, end - start},
				      .mode = REGISTER_MODE};

	return ioctl(pages->uffd, UFFDIO_REGISTER, &arg) < 0 ? -errno : 0;
}

/* A kernel that knows CONTINUE with write protection answers "no page there"; others "bad mode". */
static int continue_wp_check(const struct pages *pages)
{
	struct uffdio_continue arg = {.range = {g_address(pages, 0), PANGEA_PAGE_SIZE},
				      .mode = UFFDIO_CONTINUE_MODE_WP};

	if (ioctl(pages->uffd, UFFDIO_CONTINUE, &arg) < 0 && errno == EFAULT)
		return 0;
	log_error("this kernel's userfaultfd cannot map a page write-protected "
		  "(UFFDIO_CONTINUE_MODE_WP): Linux 6.4 or later is needed");
	return -ENOSYS;
}

static int memory_open(struct pages *pages)
{
	pages->memfd = memfd_create("pangea-ram", MFD_CLOEXEC);
	if (pages->memfd < 0)
		return -errno;
	if (ftruncate(pages->memfd, (off_t)pages->ram_end) < 0)
		return -errno;
	return 0;
}

static int pages_setup(struct pages *pages, enum pages_use use)
{
	int err = memory_open(pages);

	if (!err)
		err = view_map(pages, pages->g_size, &pages->g);
	if (!err)
		err = view_map(pages, pages->a_size, &pages->a);
	if (err) {
		log_error("cannot map guest memory: %s", error_text(err));
		return err;
	}
	pages->uffd = faults_open(use & PAGES_KERNEL);
	if (pages->uffd < 0)
		return pages->uffd;
	if (pages->alone)
		return 0;
	err = each_part(pages, pages->g, part_register);
	if (err) {
		log_error("userfaultfd refuses guest memory: %s", error_text(err));
		return err;
	}
	return continue_wp_check(pages);
}

static bool ram_end_valid(uint64_t ram_end)
{
	if (ram_end == 0 || ram_end % PANGEA_PAGE_SIZE || ram_end > GUEST_MEM_MAX + GPA_HOLE_END)
		return false;
	return ram_end <= GPA_HOLE_START || ram_end > GPA_HOLE_END;
}

int pages_create(uint64_t ram_end, uint64_t room_end, enum pages_use use, struct pages **out)
{
	struct pages *pages;
	int err;

	if (!ram_end_valid(ram_end))
		return -EINVAL;
	pages = calloc(1, sizeof(*pages));
	if (!pages)
		return -ENOMEM;
	pages->memfd = -1;
	pages->uffd = -1;
	pages->ram_end = ram_end;
	pages->a_size = ram_end + GUARD_SIZE;
	pages->g_size = (room_end > ram_end ? room_end : ram_end) + GUARD_SIZE;
	pages->alone = use & PAGES_ALONE;
	err = pages_setup(pages, use);
	if (err)
		pages_destroy(pages);
	else
		*out = pages;
	return err;
}

void pages_destroy(struct pages *pages)
{
	/* The mapping goes first: a thread that still waits must not go on with stale memory. */
	if (pages->g)
		munmap(pages->g, pages->g_size);
	if (pages->uffd >= 0)
		close(pages->uffd);
	if (pages->a)
		munmap(pages->a, pages->a_size);
	if (pages->memfd >= 0)
		close(pages->memfd);
	free(pages);
}
