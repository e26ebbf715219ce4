/* SPDX-License-Identifier: Apache-2.0 */
/* The network device between a driver's rings and the stream of frames that passt would hold the other end of. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/pci/pci_driver.h"
#include "vmm/virtio/virtio_net.h"

#define HEADER	     12u
#define F_GUEST_CSUM (UINT64_C(1) << 1)
#define F_MAC	     (UINT64_C(1) << 5)
#define F_MRG_RXBUF  (UINT64_C(1) << 15)
#define F_STATUS     (UINT64_C(1) << 16)
#define BUFFER(n)    (DRIVER_DATA + (uint64_t)(n) * 0x2000)
#define FRAME_MAX    65600u
#define RX	     0u
#define TX	     1u

static const uint8_t mac[VIRTIO_NET_MAC_SIZE] = {0x52, 0x54, 0, 1, 2, 3};

/* A device, and in *peer the other end of its stream. */
static struct pci_driver *net_new(int *peer)
{
	struct timeval limit = {.tv_sec = PCI_DRIVER_WAIT_MS / 1000};
	struct virtio_net_config config = {.name = "net0"};
	struct virtio_device device;
	int fds[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	setsockopt(fds[1], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	config.fd = fds[0];
	memcpy(config.mac, mac, sizeof(mac));
	cr_assert_eq(virtio_net_create(&config, &device), 0);
	*peer = fds[1];
	return pci_driver_new(&device);
}

/* The same over a tap: both ends keep frames apart. */
static struct pci_driver *tap_new(int *peer)
{
	struct timeval limit = {.tv_sec = PCI_DRIVER_WAIT_MS / 1000};
	struct virtio_net_config config = {.name = "net0", .tap = true};
	struct virtio_device device;
	int fds[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	setsockopt(fds[1], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	cr_assert_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	config.fd = fds[0];
	memcpy(config.mac, mac, sizeof(mac));
	cr_assert_eq(virtio_net_create(&config, &device), 0);
	*peer = fds[1];
	return pci_driver_new(&device);
}

static void fill(uint8_t *at, uint32_t len, uint32_t seed)
{
	for (uint32_t i = 0; i < len; i++)
		at[i] = (uint8_t)(seed + i * 7 + (i >> 8));
}

static void peer_send(int peer, uint32_t len, uint32_t seed)
{
	static uint8_t bytes[FRAME_MAX + 4];
	uint32_t length = htonl(len);

	memcpy(bytes, &length, 4);
	fill(bytes + 4, len, seed);
	for (size_t done = 0; done < len + 4;) {
		ssize_t put = write(peer, bytes + done, len + 4 - done);

		cr_assert_gt(put, 0);
		done += (size_t)put;
	}
}

static void peer_expect(int peer, uint32_t len, uint32_t seed)
{
	static uint8_t bytes[FRAME_MAX], want[FRAME_MAX];
	uint32_t length;

	cr_assert_eq(recv(peer, &length, 4, MSG_WAITALL), 4);
	cr_assert_eq(ntohl(length), len);
	cr_assert_eq(recv(peer, bytes, len, MSG_WAITALL), (ssize_t)len);
	fill(want, len, seed);
	cr_assert_arr_eq(bytes, want, len);
}

/* A buffer for frames at descriptor head. */
static void rx_add(struct pci_driver *d, uint16_t head, uint32_t len)
{
	struct pci_buffer b = {.in_gpa = BUFFER(head), .in_len = len};

	memset(d->ram + BUFFER(head), 0xee, len);
	pci_driver_put(d, RX, head, &b, true);
}

static void tx_add(struct pci_driver *d, uint16_t head, uint32_t len, uint32_t seed)
{
	struct pci_buffer b = {.out_gpa = BUFFER(64 + head), .out_len = len + HEADER};

	memset(d->ram + b.out_gpa, 0, HEADER);
	fill(d->ram + b.out_gpa + HEADER, len, seed);
	pci_driver_put(d, TX, head, &b, true);
}

Test(virtio_net, what_it_says_of_itself)
{
	int peer;
	struct pci_driver *d = net_new(&peer);

	cr_assert_eq(pci_driver_features_offered(d) & UINT32_MAX &
			     ~(VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC),
		     F_GUEST_CSUM | F_MAC | F_MRG_RXBUF | F_STATUS);
	for (unsigned i = 0; i < sizeof(mac); i++)
		cr_assert_eq(pci_driver_read(d, d->config + i, 1), mac[i]);
	cr_assert_eq(pci_driver_read(d, d->config + 6, 2), 1, "the link is up");
	pci_driver_free(d);
	close(peer);
}

Test(virtio_net, frames_go_out)
{
	int peer;
	struct pci_driver *d = net_new(&peer);
	uint32_t written;
	uint16_t head;

	cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1 | F_MAC));
	for (uint16_t i = 0; i < 100; i++) {
		tx_add(d, 2 * (i % 8), 60 + 13u * i, i);
		peer_expect(peer, 60 + 13u * i, i);
		pci_driver_await(d, TX, &head, &written);
		cr_assert_eq(head, 2 * (i % 8));
	}
	pci_driver_free(d);
	close(peer);
}

/* Without lengths, and none of them is said to be checked. */
Test(virtio_net, a_taps_frames_go_out_and_come_in)
{
	int peer;
	struct pci_driver *d = tap_new(&peer);
	uint8_t want[2000], got[2000];
	uint32_t written;
	uint16_t head;

	cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1 | F_GUEST_CSUM));
	for (uint16_t i = 0; i < 100; i++) {
		uint32_t len = 60 + 13u * i;

		fill(want, len, i);
		tx_add(d, 2 * (i % 8), len, i);
		cr_assert_eq(recv(peer, got, sizeof(got), 0), (ssize_t)len);
		cr_assert_arr_eq(got, want, len);
		pci_driver_await(d, TX, &head, &written);
		rx_add(d, 2 * (i % 8), 2048);
		cr_assert_eq(send(peer, want, len, 0), (ssize_t)len);
		pci_driver_await(d, RX, &head, &written);
		cr_assert_eq(written, HEADER + len);
		cr_assert_eq(d->ram[BUFFER(head)], 0);
		cr_assert_arr_eq(d->ram + BUFFER(head) + HEADER, want, len);
	}
	/* Those that come before there is a buffer wait. */
	for (unsigned i = 0; i < 6; i++) {
		fill(want, 100 + i, i);
		cr_assert_eq(send(peer, want, 100 + i, 0), 100 + (ssize_t)i);
	}
	for (uint16_t i = 0; i < 6; i++) {
		rx_add(d, 2 * i, 2048);
		pci_driver_await(d, RX, &head, &written);
		cr_assert_eq(written, HEADER + 100 + i);
	}
	/* A tap that is gone. */
	close(peer);
	pci_driver_until(pci_driver_read(d, d->config + 6, 2) == 0);
	pci_driver_free(d);
}

Test(virtio_net, frames_come_in)
{
	int peer;
	struct pci_driver *d = net_new(&peer);
	uint8_t want[2000];
	uint32_t written;
	uint16_t head;

	cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1 | F_GUEST_CSUM));
	for (uint16_t i = 0; i < 50; i++) {
		rx_add(d, 2 * (i % 8), 2048);
		peer_send(peer, 60 + 13u * i, i);
		pci_driver_await(d, RX, &head, &written);
		cr_assert_eq(written, HEADER + 60 + 13u * i);
		cr_assert_eq(d->ram[BUFFER(head)], 2, "its checksums were checked");
		cr_assert_eq(d->ram[BUFFER(head) + 10], 1, "one buffer");
		fill(want, 60 + 13u * i, i);
		cr_assert_arr_eq(d->ram + BUFFER(head) + HEADER, want, 60 + 13u * i);
	}
	pci_driver_until(atomic_load(&d->interrupts[RX]) > 0);
	pci_driver_free(d);
	close(peer);
}

/* Frames wait in the stream, not in us, and none is lost. */
Test(virtio_net, frames_wait_for_buffers)
{
	int peer;
	struct pci_driver *d = net_new(&peer);
	uint32_t written;
	uint16_t head;

	cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1));
	for (unsigned i = 0; i < 6; i++)
		peer_send(peer, 100 + i, i);
	for (uint16_t i = 0; i < 6; i++) {
		rx_add(d, 2 * i, 2048);
		pci_driver_await(d, RX, &head, &written);
		cr_assert_eq(written, HEADER + 100 + i);
	}
	pci_driver_free(d);
	close(peer);
}

Test(virtio_net, a_long_frame_is_spread_over_buffers)
{
	int peer;
	struct pci_driver *d = net_new(&peer);
	uint8_t want[5000];
	uint32_t written;
	uint16_t head;

	cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1 | F_MRG_RXBUF));
	peer_send(peer, 5000, 3);
	rx_add(d, 0, 2048);
	rx_add(d, 2, 2048);
	usleep(10000); /* two do not take it: they are not used */
	rx_add(d, 4, 2048);
	fill(want, 5000, 3);
	pci_driver_await(d, RX, &head, &written);
	cr_assert(head == 0 && written == 2048);
	cr_assert_eq(d->ram[BUFFER(0) + 10], 3, "three buffers");
	cr_assert_arr_eq(d->ram + BUFFER(0) + HEADER, want, 2048 - HEADER);
	pci_driver_await(d, RX, &head, &written);
	cr_assert(head == 2 && written == 2048);
	cr_assert_arr_eq(d->ram + BUFFER(2), want + 2048 - HEADER, 2048);
	pci_driver_await(d, RX, &head, &written);
	cr_assert(head == 4 && written == 5000 - 2 * 2048 + HEADER);
	pci_driver_free(d);
	close(peer);
}

Test(virtio_net, a_frame_that_no_buffer_takes_is_dropped_alone)
{
	int peer;
	struct pci_driver *d = net_new(&peer);
	uint32_t written;
	uint16_t head;

	cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1));
	rx_add(d, 0, 1526);
	peer_send(peer, 3000, 1);
	peer_send(peer, 300, 2);
	pci_driver_await(d, RX, &head, &written);
	cr_assert_eq(written, HEADER + 300);
	pci_driver_free(d);
	close(peer);
}

Test(virtio_net, what_is_no_frame_does_not_go_out)
{
	int peer;
	struct pci_driver *d = net_new(&peer);
	struct pci_buffer small = {.out_gpa = BUFFER(0), .out_len = 4};
	uint32_t written;
	uint16_t head;

	cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1));
	pci_driver_put(d, TX, 0, &small, true);
	pci_driver_await(d, TX, &head, &written);
	tx_add(d, 2, 10, 0);
	pci_driver_await(d, TX, &head, &written);
	tx_add(d, 4, 64, 5);
	peer_expect(peer, 64, 5);
	pci_driver_free(d);
	close(peer);
}

/* A stream that is full holds the guest's frames back; when it is read again all of them come, in order. */
Test(virtio_net, a_full_stream_is_back_pressure)
{
	int peer, small = 4096;
	struct pci_driver *d = net_new(&peer);
	uint32_t written;
	uint16_t head;

	setsockopt(peer, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1));
	for (unsigned round = 0; round < 40; round++) {
		for (uint16_t i = 0; i < 8; i++)
			tx_add(d, 2 * i, 7000, round * 8 + i);
		if (round % 2)
			usleep(2000);
		for (uint16_t i = 0; i < 8; i++)
			peer_expect(peer, 7000, round * 8 + i);
		for (uint16_t i = 0; i < 8; i++)
			pci_driver_await(d, TX, &head, &written);
	}
	pci_driver_free(d);
	close(peer);
}

Test(virtio_net, the_end_of_the_stream_is_a_pulled_cable)
{
	int peer;
	struct pci_driver *d = net_new(&peer);
	uint32_t written;
	uint16_t head;

	cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1 | F_STATUS));
	close(peer);
	pci_driver_until(pci_driver_read(d, d->config + 6, 2) == 0);
	pci_driver_until(atomic_load(&d->interrupts[VIRTIO_QUEUES_MAX]) == 1);
	tx_add(d, 0, 64, 0);
	pci_driver_await(d, TX, &head, &written);
	cr_assert_not(pci_driver_status(d) & VIRTIO_STATUS_NEEDS_RESET);
	pci_driver_free(d);
}

Test(virtio_net, a_length_that_cannot_be_ends_the_stream)
{
	uint32_t length = htonl(FRAME_MAX + 1);
	int peer;
	struct pci_driver *d = net_new(&peer);

	cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1));
	cr_assert_eq(write(peer, &length, 4), 4);
	pci_driver_until(pci_driver_read(d, d->config + 6, 2) == 0);
	pci_driver_free(d);
	close(peer);
}

Test(virtio_net, a_reset_in_the_middle_of_traffic)
{
	int peer;
	struct pci_driver *d = net_new(&peer);
	uint32_t written;
	uint16_t head;

	for (unsigned round = 0; round < 10; round++) {
		cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1));
		tx_add(d, 0, 500, round);
		peer_expect(peer, 500, round);
		rx_add(d, 0, 2048);
		peer_send(peer, 400, round);
		pci_driver_await(d, RX, &head, &written);
		cr_assert_eq(written, HEADER + 400);
		pci_driver_reset(d);
	}
	pci_driver_free(d);
	close(peer);
}
