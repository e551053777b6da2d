package main

import "testing"

// The measurement in small: what it says must be so at any size.
func TestScale(t *testing.T) {
	results, err := run(t.Context(), plan{ingresses: 20, changes: 5, rate: 50, dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	r := results[0]
	r.print(t.Output())
	if len(results) != 1 || len(r.took) != 5 || r.memory == 0 || r.asked == 0 || r.failed != 0 {
		t.Errorf("%d results, %d changes, %d bytes, %d of %d requests failed%s", len(results), len(r.took), r.memory, r.failed, r.asked, r.trouble)
	}
}
