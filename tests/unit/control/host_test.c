/* SPDX-License-Identifier: Apache-2.0 */
/* A host's report on its way: what is written is what is read, however odd the host. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "host/host.h"
#include "control/control.h"

/* What is said of the host, after it went through a message. */
static json_t *carried(const struct host_report *report)
{
	char why[CONTROL_WHY_MAX] = "";
	json_t *msg = json_pack("{s:s, s:o}", "type", "register", "host",
				control_host_json(report)),
	       *out = NULL;

	cr_assert(msg);
	cr_expect_eq(control_host_check(msg, &out, why), 0, "%s", why);
	cr_assert(out);
	cr_expect(json_equal(out, json_object_get(msg, "host")));
	json_decref(msg);
	return out;
}

Test(host, this_one)
{
	struct host_report report;
	json_t *out;

	host_probe(&report);
	out = carried(&report);
	cr_expect_eq(json_array_size(json_object_get(out, "items")), report.count);
	cr_expect_str_eq(json_string_value(json_object_get(out, "cpu")),
			 host_fits_kvm(&report) ? "kvm" : "soft");
	json_decref(out);
}

Test(host, the_longest_and_dirtiest)
{
	struct host_report report = {.count = HOST_ITEMS_MAX, .live.tsc_hz = 1000000};
	json_t *out;

	for (unsigned i = 0; i < report.count; i++) {
		struct host_item *item = &report.items[i];
		strcpy(item->name, "userfaultfd-kernel");
		item->matters = HOST_REFUSE;
		memset(item->found, 0xff, sizeof(item->found) - 1);
		memset(item->sentence, 0x1b, sizeof(item->sentence) - 1);
		memset(item->mend, '"', sizeof(item->mend) - 1);
	}
	out = carried(&report);
	cr_expect_eq(json_string_length(json_object_get(
			     json_array_get(json_object_get(out, "items"), 0), "sentence")),
		     sizeof(report.items[0].sentence) - 1);
	json_decref(out);
}

Test(host, auto_goes_by_virtualisation_and_nested_paging)
{
	struct host_report report = {.live.vmx = true, .paging = HOST_PAGING_NESTED};

	cr_expect(host_fits_kvm(&report));
	report.live.kvm_error = -13;
	cr_expect_not(host_fits_kvm(&report));
	report.live.kvm_error = 0;
	report.live.uffd_kernel_error = -1;
	cr_expect_not(host_fits_kvm(&report));
	report.live.uffd_kernel_error = 0;
	report.paging = HOST_PAGING_SHADOW;
	cr_expect_not(host_fits_kvm(&report));
	report.paging = HOST_PAGING_NESTED;
	report.live.vmx = false;
	cr_expect_not(host_fits_kvm(&report));
	report.live.svm = true;
	cr_expect(host_fits_kvm(&report));
}
